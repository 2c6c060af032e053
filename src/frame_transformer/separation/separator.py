"""Separating a song of any length in bounded memory.

The song is read twice: once for its largest magnitude, by which every window is normalised, and once to be separated.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..audio import AudioReader, Resampler, StreamingISTFT, StreamingSTFT
from ..errors import AudioError, OptionError
from ..models import load_model

AudioSource = str | os.PathLike[str] | BinaryIO | np.ndarray | Tensor
Progress = Callable[[int, int], None]
Ensemble = Literal["mean", "median", "min", "max"]

# Channels that the network sees together as left and right, by channel count in FFmpeg's order; one alone is doubled.
CHANNEL_PAIRS = {
    1: ((0, 0),),
    2: ((0, 1),),
    4: ((0, 1), (2, 3)),
    5: ((0, 1), (2, 2), (3, 4)),
    6: ((0, 1), (2, 2), (3, 3), (4, 5)),
    8: ((0, 1), (2, 2), (3, 3), (4, 5), (6, 7)),
}
ARRAY_BLOCK = 1 << 17


@dataclass(frozen=True)
class StemBlock:
    """The next samples of the song: float32 (channels, samples) each, vocals + instrumental = mixture."""

    mixture: np.ndarray
    vocals: np.ndarray
    instrumental: np.ndarray


@dataclass(frozen=True)
class Separation:
    """A separated song: float32 (channels, samples) at ``sample_rate`` Hz, as many of both as the input has."""

    vocals: np.ndarray
    instrumental: np.ndarray
    sample_rate: int
    warnings: tuple[str, ...] = ()


class _ArrayBlocks:
    """An array in memory, read like a file."""

    def __init__(self, samples: np.ndarray):
        self.samples = samples
        self.warnings: list[str] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.samples.shape[1], ARRAY_BLOCK):
            yield self.samples[:, start : start + ARRAY_BLOCK]


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, then Apple's MPS, then the CPU.

    Raises:
        OptionError: the device is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device!r} is not available here: use auto or cpu") from error


class Separator:
    """Takes songs apart into vocals and instrumental.

    Args:
        model: a name, a path, a loaded model, or several of them, which then form an ensemble.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        window, context: frames kept of each pass and frames of real context on each side; the first model's
        own when None.
        overlap: share of a window that is blended with the next, 0 to 0.5; 0 is what the original research code did.
        ensemble: how masks of several models are joined. weights: of the models in a mean.

    Raises:
        OptionError: options out of range, models that read different spectrograms. ModelError: no such model.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | nn.Module | Sequence[str | os.PathLike[str] | nn.Module] = "default",
        *,
        device: str = "auto",
        window: int | None = None,
        context: int | None = None,
        overlap: float = 0.25,
        ensemble: Ensemble = "mean",
        weights: Sequence[float] | None = None,
    ):
        self.device = resolve_device(device)
        chosen = [model] if isinstance(model, str | os.PathLike | nn.Module) else list(model)
        if not chosen:
            raise OptionError("no model given")
        loaded = [item if isinstance(item, nn.Module) else load_model(item) for item in chosen]
        self.models = [item.to(self.device).eval() for item in loaded]
        self.config: Any = self.models[0].config  # nn.Module types its attributes as modules
        config: Any = self.config
        signal = ("n_fft", "hop_length", "sample_rate", "in_channels")
        if any(getattr(other.config, key) != getattr(config, key) for other in self.models for key in signal):
            raise OptionError("models of an ensemble must read the same spectrogram (n_fft, hop_length, sample_rate)")
        if ensemble not in ("mean", "median", "min", "max"):
            raise OptionError(f"unknown ensemble {ensemble!r}: use mean, median, min or max")
        if weights is not None and (ensemble != "mean" or len(weights) != len(self.models) or sum(weights) <= 0):
            raise OptionError("weights need the mean ensemble and one number for each model, not all zero")
        self.ensemble = ensemble
        self.weights = torch.tensor(weights or [1.0] * len(self.models), dtype=torch.float32, device=self.device)
        self.weights /= self.weights.sum()
        self.window: int = config.window if window is None else window
        self.context: int = config.context if context is None else context
        if self.window < 1 or self.context < 0 or not 0 <= overlap <= 0.5:
            raise OptionError("window must be at least 1, context at least 0, overlap between 0 and 0.5")
        self.overlap = round(self.window * overlap)

    def separate(
        self, source: AudioSource, sample_rate: int | None = None, progress: Progress | None = None
    ) -> Separation:
        """Separates a whole song in memory.

        Args:
            source: path, binary file object, or array or tensor (channels, samples).
            sample_rate: Hz, of an array or tensor; the model's own rate when None.
            progress: called with (samples done, samples in all); an exception it raises ends the separation.

        Raises:
            AudioError: the source cannot be read or holds NaN or infinite samples.
        """
        stream = StemStream(self, source, sample_rate, progress)
        blocks = list(stream)
        return Separation(
            np.concatenate([block.vocals for block in blocks], axis=1),
            np.concatenate([block.instrumental for block in blocks], axis=1),
            stream.sample_rate,
            tuple(stream.warnings),
        )

    def stream(
        self, source: AudioSource, sample_rate: int | None = None, progress: Progress | None = None
    ) -> "StemStream":
        """As :meth:`separate`, but an iterator of :class:`StemBlock`: memory does not grow with the song."""
        return StemStream(self, source, sample_rate, progress)

    @torch.inference_mode()
    def mask(self, magnitudes: Tensor) -> Tensor:
        """The instrumental mask of magnitudes over the song's maximum: (batch, 2, n_fft / 2, frames), both."""
        magnitudes = magnitudes.to(self.device)
        masks = torch.stack([model(magnitudes).sigmoid() for model in self.models])
        if self.ensemble == "mean":
            return torch.einsum("m,m...->...", self.weights, masks).cpu()
        if self.ensemble == "median":
            return masks.median(dim=0).values.cpu()
        return (masks.amin(dim=0) if self.ensemble == "min" else masks.amax(dim=0)).cpu()


class StemStream:
    """The :class:`StemBlock` of one song in order, with its ``sample_rate`` (Hz), ``channels`` and ``warnings``."""

    def __init__(self, separator: Separator, source: AudioSource, sample_rate: int | None, progress: Progress | None):
        self.separator = separator
        self.progress = progress
        self._blocks: AudioReader | _ArrayBlocks
        self.tags: dict[str, str] = {}
        if isinstance(source, np.ndarray | Tensor):
            samples = np.asarray(source, dtype=np.float32)
            if samples.ndim != 2 or 0 in samples.shape:
                raise AudioError(f"expected (channels, samples) with at least one of each, got {samples.shape}")
            if not np.isfinite(samples).all():
                raise AudioError("the array holds NaN or infinite samples")
            self._blocks = _ArrayBlocks(samples)
            self.channels = len(samples)
            self.sample_rate = sample_rate or separator.config.sample_rate
        else:
            self._blocks = AudioReader(source)
            self.channels, self.sample_rate = self._blocks.info.channels, self._blocks.info.sample_rate
            self.tags = self._blocks.info.tags
        pairs = CHANNEL_PAIRS.get(self.channels, tuple((i, i) for i in range(self.channels)))
        self._sides = [channel for pair in pairs for channel in pair]

    @property
    def warnings(self) -> list[str]:
        """What was wrong with the file, known once it has been read to its end."""
        return self._blocks.warnings

    def _spectra(self, stft: StreamingSTFT, record: Callable[[np.ndarray], None]) -> Iterator[Tensor]:
        """The spectrogram in pieces (pairs · 2, n_fft / 2 + 1, frames); ``record`` sees the blocks they came from."""
        rate = self.separator.config.sample_rate
        resampler = Resampler(self.sample_rate, rate, self.channels)
        for block in self._blocks:
            record(block)
            yield stft.push(torch.from_numpy(resampler.process(block)[self._sides]))
        rest = resampler.process(np.zeros((self.channels, 0), np.float32), last=True)
        yield stft.push(torch.from_numpy(rest[self._sides]))
        yield stft.finish()

    def __iter__(self) -> Iterator[StemBlock]:
        config = self.separator.config
        peak = torch.zeros(len(self._sides) // 2)
        total = 0

        def count(block: np.ndarray) -> None:
            nonlocal total
            total += block.shape[1]

        first = StreamingSTFT(config.n_fft, config.hop_length)
        for spectrum in self._spectra(first, count):
            if spectrum.shape[2]:
                peak = torch.maximum(peak, spectrum[:, :-1].abs().amax((1, 2)).view(-1, 2).amax(1))

        istft = StreamingISTFT(config.n_fft, config.hop_length)
        back = Resampler(config.sample_rate, self.sample_rate, self.channels)
        mixture = _Fifo(self.channels)
        second = StreamingSTFT(config.n_fft, config.hop_length)
        vocal_spectra = self._vocal_spectra(self._spectra(second, mixture.push), peak, first.song_frames)
        done = 0
        for spectrum in vocal_spectra:
            vocals = back.process(self._merge_sides(istft.push(spectrum).numpy()))
            # The last hop is longer than the song, and the resampler may round its length up.
            block = self._block(mixture, vocals[:, : total - done])
            done += block.mixture.shape[1]
            if self.progress is not None:
                self.progress(done, total)
            if block.mixture.shape[1]:
                yield block
        if done < total:
            vocals = np.zeros((self.channels, total - done), np.float32)
            rest = back.process(np.zeros((self.channels, 0), np.float32), last=True)[:, : total - done]
            vocals[:, : rest.shape[1]] = rest
            yield self._block(mixture, vocals)
            if self.progress is not None:
                self.progress(total, total)

    def _merge_sides(self, sides: np.ndarray) -> np.ndarray:
        """Back from left and right of every pair to the song's channels; a doubled channel is the mean of its two."""
        out = np.zeros((self.channels, sides.shape[1]), np.float32)
        for index, channel in enumerate(self._sides):
            out[channel] += sides[index] / self._sides.count(channel)
        return out

    @staticmethod
    def _block(mixture: "_Fifo", vocals: np.ndarray) -> StemBlock:
        original = mixture.pop(vocals.shape[1])
        return StemBlock(original, vocals, original - vocals)

    def _vocal_spectra(self, spectra: Iterator[Tensor], peak: Tensor, song_frames: int) -> Iterator[Tensor]:
        """(1 − mask) · spectrum for all frames in order, the mask blended over windows with real context."""
        separator = self.separator
        window, context, overlap = separator.window, separator.context, separator.overlap
        scale = 1 / peak.clamp_min(1e-12)[:, None, None, None]
        taper = torch.ones(window)
        if overlap:
            ramp = (torch.arange(overlap) + 0.5) / overlap
            taper[:overlap], taper[-overlap:] = ramp, ramp.flip(0)
        stride = window - overlap

        pending = next(spectra)
        origin = 0  # frame number of pending's first
        start = 0
        carried: Tensor | None = None  # weighted mask of the frames that the previous window shares with this one
        ended = False
        while start < song_frames:
            while not ended and origin + pending.shape[2] < start + window + context:
                piece = next(spectra, None)
                ended = piece is None
                if piece is not None:
                    pending = torch.cat((pending, piece), dim=2)
            low, high = start - context, start + window + context
            real = pending[:, :-1, max(low, origin) - origin : min(high, song_frames) - origin].abs()
            x = real.unflatten(0, (-1, 2)) * scale
            x = nn.functional.pad(x, (max(0, -low), max(0, high - song_frames)))
            mask = separator.mask(x)[..., context : context + window]
            last = start + stride >= song_frames
            # The first window does not fade in, the last does not fade out.
            weight = taper.clone()
            if start == 0:
                weight[:overlap] = 1
            if last:
                weight[stride:] = 1
            mask = mask * weight
            if carried is not None:
                mask[..., :overlap] += carried
            carried = mask[..., stride:] if overlap else None
            ready = min(window if last else stride, song_frames - start)
            if last:
                # One frame past the song's last completes its final hop; it takes the mask of that last frame.
                extra = origin + pending.shape[2] - song_frames
                mask = torch.cat((mask[..., :ready], mask[..., ready - 1 : ready].expand(-1, -1, -1, extra)), dim=-1)
                ready += extra
            part = pending[:, :, start - origin : start - origin + ready].clone()
            part[:, :-1] *= 1 - mask[..., :ready].flatten(0, 1)
            yield part
            start += stride
            drop = start - context - origin
            if drop > 0:
                pending, origin = pending[:, :, drop:], origin + drop


class _Fifo:
    """Samples that were read and not yet handed on, (channels, samples)."""

    def __init__(self, channels: int):
        self._samples = np.zeros((channels, 0), np.float32)

    def push(self, block: np.ndarray) -> None:
        self._samples = np.concatenate((self._samples, block), axis=1)

    def pop(self, samples: int) -> np.ndarray:
        out, self._samples = self._samples[:, :samples], self._samples[:, samples:]
        return out


def separate(source: AudioSource, sample_rate: int | None = None, **options: object) -> Separation:
    """Separates one song; ``options`` are those of :class:`Separator`, which is worth keeping for several songs."""
    return Separator(**options).separate(source, sample_rate)  # type: ignore[arg-type]
