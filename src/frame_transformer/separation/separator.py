"""Separating a song of any length in bounded memory.

The song is read twice: once for its largest magnitude, by which every window is normalised, and once to be separated.
"""

import ctypes
import functools
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..audio import AudioReader, Resampler, StreamingISTFT, StreamingSTFT
from ..checkpoints import OnnxModel, load_model
from ..errors import AudioError, OptionError
from ..models import MaskModel, window_level
from .ensembles import join_masks
from .options import DTYPES, Model, SeparationOptions
from .residue import clear_residue

logger = logging.getLogger(__name__)

AudioSource = str | os.PathLike[str] | BinaryIO | np.ndarray | Tensor
Progress = Callable[[int, int], None]

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
# Vocals fainter than `smoothing` are removed where they stay so for a second and a half, faded over a third of one.
QUIET_SECONDS, FADE_SECONDS = 1.5, 0.35


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


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """A type of numbers by name.

    Raises:
        OptionError: one that the device cannot compute with.
    """
    one = torch.ones(1, 1, device=device, dtype=DTYPES[dtype])
    try:
        one @ one
    except RuntimeError as error:
        raise OptionError(f"device {str(device)!r} cannot compute in {dtype}: use float32") from error
    return DTYPES[dtype]


def keep_freed_memory() -> None:
    """Lets this process reuse the memory of freed tensors instead of returning it; only glibc is asked.

    By default every large tensor gets fresh pages, and clearing them takes a seventh to a third of a pass of the
    default network. The process holds on to its peak memory, which grows by a tenth to a fifth at long windows.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        m_trim_threshold, m_mmap_threshold, never = -1, -3, 1 << 30
        libc.mallopt(m_mmap_threshold, never)
        libc.mallopt(m_trim_threshold, never)


class Separator:
    """Takes songs apart into vocals and instrumental. ``options`` are the :class:`SeparationOptions` it was made with.

    >>> separator = Separator("default", device="cpu", overlap=0.25)

    Args:
        model: a name, a path, a loaded model, or several of them, which then form an ensemble; or all options at once.
        download: called with (model, bytes so far, bytes in all) where a model has to be downloaded.
        options: the other fields of :class:`SeparationOptions`.

    Raises:
        OptionError: options out of range, models that read different spectrograms. ModelError: no such model.
    """

    def __init__(
        self,
        model: Model | Sequence[Model] | SeparationOptions = "default",
        *,
        download: Callable[[str, int, int], None] | None = None,
        **options: Any,
    ):
        if not isinstance(model, SeparationOptions):
            options["models"] = model
        self.options = model if isinstance(model, SeparationOptions) else SeparationOptions(**options)
        self.device = resolve_device("cpu" if self.options.engine == "onnx" else self.options.device)
        self.dtype = resolve_dtype(self.options.dtype, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.models = [_load(item, self.options, download).to(self.device).eval() for item in self.options.models]
        self.config = config = self.models[0].config
        if any(other.config.signal != config.signal for other in self.models):
            raise OptionError("models of an ensemble must read the same spectrogram (n_fft, hop_length, sample_rate)")
        weights = self.options.weights or [1.0] * len(self.models)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=self.device)
        self.window: int = config.window.frames if self.options.window is None else self.options.window
        self.context: int = config.window.context if self.options.context is None else self.options.context
        if self.options.tta and self.context < 2:
            raise OptionError(
                "test-time averaging moves the window within its context: it needs a context of 2 or more"
            )
        self.overlap = round(self.window * self.options.overlap)
        logger.info(
            "%d model(s) on %s in %s, windows of %d + %d + %d frames",
            *(len(self.models), self.device, self.dtype, self.context, self.window, self.context),
        )

    def separate(
        self, source: AudioSource, sample_rate: int | None = None, progress: Progress | None = None
    ) -> Separation:
        """Separates a whole song in memory.

        Args:
            source: path, binary file object, or array or tensor (channels, samples).
            sample_rate: Hz, of an array or tensor; the model's own rate when None.
            progress: called with (samples done, samples in all); an exception it raises ends the separation. While
                the song is read for the first time none are done, and as many were read as the second number says.

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
        """The instrumental mask of magnitudes over the song's maximum: float32 (batch, 2, n_fft / 2, frames), both."""
        return torch.cat([self._mask(part.to(self.device)).cpu() for part in magnitudes.split(self.options.batch_size)])

    def _mask(self, magnitudes: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits = torch.stack([model(magnitudes) for model in self.models])
        return join_masks(logits.float().sigmoid(), self.options.ensemble, self.weights)

    def window_mask(self, magnitudes: Tensor) -> Tensor:
        """The mask of a window's own frames, averaged where ``tta`` asks for it.

        (batch, 2, n_fft / 2, context + window + context) becomes (batch, 2, n_fft / 2, window).
        """
        full, half = self.context, self.context // 2
        sights = [(full, full), (half, half), (full, half), (half, full)] if self.options.tta else [(full, full)]
        masks = [
            self.mask(magnitudes[..., full - left : full + self.window + right])[..., left : left + self.window]
            for left, right in sights
        ]
        return torch.stack(masks).mean(dim=0) if self.options.tta else masks[0]


def _load(model: Model, options: SeparationOptions, download: Callable[[str, int, int], None] | None) -> MaskModel:
    if isinstance(model, nn.Module):
        label, loaded = type(model).__name__, model
    else:
        label = str(model)
        loaded = load_model(model, None if download is None else functools.partial(download, label))
    if isinstance(loaded, OnnxModel) != (options.engine == "onnx"):
        raise OptionError(
            f"{label}: engine onnx needs an .onnx file, written by frame-transformer export"
            if options.engine == "onnx"
            else f"{label}: an ONNX model needs engine onnx"
        )
    return loaded


class _Window(NamedTuple):
    """Frames that one pass of the network is for.

    ``spectrum`` (pairs · 2, n_fft / 2 + 1, frames) holds those that are complete once the window's mask is added,
    ``magnitudes`` (pairs, 2, n_fft / 2, context + window + context) is what the network sees.
    """

    start: int
    last: bool
    spectrum: Tensor
    magnitudes: Tensor


class StemStream:
    """The :class:`StemBlock` of one song in order, with its ``sample_rate`` (Hz), ``channels`` and ``warnings``."""

    def __init__(self, separator: Separator, source: AudioSource, sample_rate: int | None, progress: Progress | None):
        self.separator = separator
        self.progress = progress
        self._blocks: AudioReader | _ArrayBlocks
        self.tags: dict[str, str] = {}
        self.cover: bytes | None = None
        self.bit_depth = "32f"  # what keeps the song's samples
        if isinstance(source, np.ndarray | Tensor):
            samples = np.asarray(source, dtype=np.float32)
            if samples.ndim != 2 or 0 in samples.shape:
                raise AudioError(f"expected (channels, samples) with at least one of each, got {samples.shape}")
            if not np.isfinite(samples).all():
                raise AudioError("the array holds NaN or infinite samples")
            self._blocks = _ArrayBlocks(samples)
            self.channels = len(samples)
            self.sample_rate = sample_rate or separator.config.signal.sample_rate
        else:
            options = separator.options
            self._blocks = AudioReader(source, stream=options.stream, fill_gaps=options.fill_gaps)
            info = self._blocks.info
            self.channels, self.sample_rate, self.bit_depth = info.channels, info.sample_rate, info.bit_depth
            self.tags, self.cover = info.tags, self._blocks.cover
        pairs = CHANNEL_PAIRS.get(self.channels, tuple((i, i) for i in range(self.channels)))
        self._sides = [channel for pair in pairs for channel in pair]

    @property
    def warnings(self) -> list[str]:
        """What was wrong with the file, known once it has been read to its end."""
        return self._blocks.warnings

    def _spectra(self, stft: StreamingSTFT, record: Callable[[np.ndarray], None]) -> Iterator[Tensor]:
        """The spectrogram in pieces (pairs · 2, n_fft / 2 + 1, frames); ``record`` sees the blocks they came from."""
        rate = self.separator.config.signal.sample_rate
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
            if self.progress is not None:
                self.progress(0, total)

        first = StreamingSTFT(config.signal.n_fft, config.signal.hop_length)
        for spectrum in self._spectra(first, count):
            if spectrum.shape[2]:
                peak = torch.maximum(peak, spectrum[:, :-1].abs().amax((1, 2)).view(-1, 2).amax(1))

        istft = StreamingISTFT(config.signal.n_fft, config.signal.hop_length)
        back = Resampler(config.signal.sample_rate, self.sample_rate, self.channels)
        mixture = _Fifo(self.channels)
        second = StreamingSTFT(config.signal.n_fft, config.signal.hop_length)
        windows = self._windows(self._spectra(second, mixture.push), peak, first.song_frames)
        done = 0
        for spectrum, mask in self._smoothed(self._vocal_masks(windows, first.song_frames)):
            vocals = back.process(self._merge_sides(istft.push(spectrum * mask).numpy()))
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

    def _windows(self, spectra: Iterator[Tensor], peak: Tensor, song_frames: int) -> Iterator[_Window]:
        """All windows in order, their magnitudes over the largest of the song, zeros beyond its ends."""
        separator = self.separator
        window, context = separator.window, separator.context
        stride = window - separator.overlap
        scale = 1 / peak.clamp_min(1e-12)[:, None, None, None]
        pending = next(spectra)
        origin = 0  # frame number of pending's first
        for start in range(0, max(1, song_frames - separator.overlap), stride):
            pieces, frames = [pending], pending.shape[2]
            while origin + frames < start + window + context and (piece := next(spectra, None)) is not None:
                pieces.append(piece)
                frames += piece.shape[2]
            pending = torch.cat(pieces, dim=2)
            low, high = start - context, start + window + context
            real = pending[:, :-1, max(low, origin) - origin : min(high, song_frames) - origin].abs()
            magnitudes = real.unflatten(0, (-1, 2))
            if separator.config.signal.normalization == "window_level":
                magnitudes = magnitudes / window_level(magnitudes)
            else:
                magnitudes = magnitudes * scale
            magnitudes = nn.functional.pad(magnitudes, (max(0, -low), max(0, high - song_frames)))
            last = start + window >= song_frames
            # One frame past the song's last completes its final hop.
            own = pending[:, :, start - origin : None if last else start - origin + stride]
            yield _Window(start, last, own, magnitudes)
            drop = start + stride - context - origin
            if drop > 0:
                pending, origin = pending[:, :, drop:], origin + drop

    def _vocal_masks(self, windows: Iterator[_Window], song_frames: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Spectrum and mask of the vocals, both (pairs · 2, n_fft / 2 + 1, frames), blended over windows, in order."""
        separator = self.separator
        overlap, stride = separator.overlap, separator.window - separator.overlap
        taper = torch.ones(separator.window)
        if overlap:
            ramp = (torch.arange(overlap) + 0.5) / overlap
            taper[:overlap], taper[-overlap:] = ramp, ramp.flip(0)
        pairs = len(self._sides) // 2
        carried: Tensor | None = None  # weighted mask of the frames that the previous window shares with this one
        while batch := list(itertools.islice(windows, max(1, separator.options.batch_size // pairs))):
            masks = separator.window_mask(torch.cat([window.magnitudes for window in batch])).split(pairs)
            for window, mask in zip(batch, masks, strict=True):
                # The first window does not fade in, the last does not fade out.
                weight = taper.clone()
                if window.start == 0:
                    weight[:overlap] = 1
                if window.last:
                    weight[stride:] = 1
                mask = mask.flatten(0, 1) * weight
                if carried is not None:
                    mask[..., :overlap] += carried
                carried = mask[..., stride:] if overlap else None
                frames = window.spectrum.shape[2]
                mask = mask[..., : min(frames, song_frames - window.start)]
                # The frame past the song's last takes the mask of that last frame; the Nyquist bin's mask is 0.
                mask = nn.functional.pad(mask, (0, frames - mask.shape[2]), mode="replicate")
                yield window.spectrum, 1 - nn.functional.pad(mask, (0, 0, 0, 1))

    def _smoothed(self, pieces: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.separator.options.smoothing:
            return pieces
        rate = self.separator.config.signal.sample_rate / self.separator.config.signal.hop_length
        return clear_residue(
            pieces, self.separator.options.smoothing, round(QUIET_SECONDS * rate), round(FADE_SECONDS * rate / 2)
        )


class _Fifo:
    """Samples that were read and not yet handed on, (channels, samples)."""

    def __init__(self, channels: int):
        self._samples = np.zeros((channels, 0), np.float32)

    def push(self, block: np.ndarray) -> None:
        self._samples = np.concatenate((self._samples, block), axis=1)

    def pop(self, samples: int) -> np.ndarray:
        out, self._samples = self._samples[:, :samples], self._samples[:, samples:]
        return out


def separate(source: AudioSource, sample_rate: int | None = None, **options: Any) -> Separation:
    """Separates one song; ``options`` are those of :class:`Separator`, which is worth keeping for several songs."""
    return Separator(**options).separate(source, sample_rate)
