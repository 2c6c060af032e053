"""Applies a model to a song of any length: windows with context, whose masks are blended, in bounded memory."""

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..errors import ModelError, OptionError
from ..models import MaskModel, input_magnitudes, window_level
from .device import check_window
from .options import SeparationOptions
from .residue import clear_residue

# Vocals below `smoothing` are removed if they stay below it for 1.5 s, with fades of a third of a second.
QUIET_SECONDS, FADE_SECONDS = 1.5, 0.35


class Spectrogram(Protocol):
    """A song's spectrogram in pieces (pairs · 2, n_fft / 2 + 1, frames), the pairs being left and right.

    Once they are through, ``song_frames`` counts them; there may be one more, which completes the last hop.
    """

    @property
    def song_frames(self) -> int: ...

    def __iter__(self) -> Iterator[Tensor]: ...


class _Window(NamedTuple):
    """The frames of one pass of the network.

    Attributes:
        first, last: whether the song starts or ends in it.
        frames: number of frames without context.
        spectrum: (pairs · 2, n_fft / 2 + 1, frames or one more), complete once the window's mask is added.
        magnitudes: (pairs, inputs, n_fft / 2, context + window + context), the input of the network. Without
            ``pad_last``, only ``frames`` are between the contexts in the last window.
    """

    first: bool
    last: bool
    frames: int
    spectrum: Tensor
    magnitudes: Tensor


class WindowedModel:
    """A model on its device, with the windows in which it processes a song.

    Attributes:
        signal: the spectrogram that the model reads. window, context, overlap: in frames.

    Raises:
        ModelError: the model is not for two channels.
        OptionError: test-time augmentation without context, or a window that no memory here can hold.
    """

    def __init__(self, model: MaskModel, options: SeparationOptions, device: torch.device, dtype: torch.dtype):
        self.model = model.to(device).eval()
        self.signal = model.config.signal
        if self.signal.channels != 2:
            raise ModelError(f"{options.model_name}: the model is for {self.signal.channels} channels instead of 2")
        self.window = options.window or model.config.window.frames
        self.context = model.config.window.context if options.context is None else options.context
        self.overlap = round(self.window * options.overlap)
        self.options, self.device, self.dtype = options, device, dtype
        check_window(self.window + 2 * self.context, self.signal, device)
        if options.tta and self.context < 2:
            raise OptionError(
                "test-time augmentation moves the window within its context: it needs a context of 2 or more"
            )

    @torch.inference_mode()
    def mask(self, magnitudes: Tensor) -> Tensor:
        """The mask of the instrumental for the frames of a window, with test-time augmentation if ``tta`` is set.

        Args:
            magnitudes: float32 (batch, inputs, n_fft / 2, context + frames + context), normalised for the model.

        Returns:
            float32 (batch, 2, n_fft / 2, frames), on the CPU.

        Raises:
            ModelError: the network yields NaN. OptionError: the memory does not suffice.
        """
        full, half = self.context, self.context // 2
        frames = magnitudes.shape[3] - 2 * full
        sides = [(full, full), (half, half), (full, half), (half, full)] if self.options.tta else [(full, full)]
        masks = []
        for left, right in sides:
            seen = magnitudes[..., full - left : full + frames + right]
            batches = [self._forward(batch) for batch in seen.split(self.options.batch_size)]
            masks.append(torch.cat(batches)[..., left : left + frames])
        mask = torch.stack(masks).mean(dim=0) if self.options.tta else masks[0]
        if mask.sum().isnan():
            raise ModelError(
                "the network yields NaN: its weights are damaged"
                + (f", or too large for {self.options.dtype}; try float32" if self.dtype != torch.float32 else "")
            )
        return mask

    def _forward(self, magnitudes: Tensor) -> Tensor:
        try:
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = self.model(magnitudes.to(self.device))
            return logits.float().sigmoid().cpu()
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
                raise
            raise OptionError(
                f"windows of {magnitudes.shape[3]} frames, {len(magnitudes)} at once, do not fit into memory: make"
                " --window, --context or --batch-size smaller"
            ) from error

    def vocal_masks(self, spectrogram: Spectrogram, peak: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Spectrum and mask of the vocals, both (pairs · 2, n_fft / 2 + 1, frames), in order.

        Args:
            peak: the largest magnitude of each pair in the song, for models with ``song_peak`` normalization.
        """
        pieces = self._blended(self._windows(spectrogram, peak))
        if not self.options.smoothing:
            return pieces
        rate = self.signal.sample_rate / self.signal.hop_length
        return clear_residue(
            pieces, self.options.smoothing, round(QUIET_SECONDS * rate), round(FADE_SECONDS * rate / 2)
        )

    def _windows(self, spectrogram: Spectrogram, peak: Tensor | None) -> Iterator[_Window]:
        """All windows in order, with normalised magnitudes and zeros before the start and after the end of the song."""
        window, context, stride = self.window, self.context, self.window - self.overlap
        pieces = iter(spectrogram)
        pending = next(pieces)
        start = origin = 0  # number of the window's first frame, of pending's first
        end: int | None = None
        last = False
        while not last:
            low, high = start - context, start + window + context
            parts, known = [pending], origin + pending.shape[2]
            # Two frames more than the window needs, one of which may only complete the last hop: the song goes on.
            while end is None and known < high + 2:
                piece = next(pieces, None)
                if piece is None:
                    end = spectrogram.song_frames
                else:
                    parts.append(piece)
                    known += piece.shape[2]
            pending = torch.cat(parts, dim=2)
            last = end is not None and start + window >= end
            if end is not None and not self.model.config.window.pad_last:
                high = min(high, end + context)
            missing = 0 if end is None else max(0, high - end)
            real = pending[:, :-1, max(low, origin) - origin : high - missing - origin].unflatten(0, (-1, 2))
            real = input_magnitudes(real, self.signal)
            level = window_level(real[:, :2]) if peak is None else peak.clamp_min(1e-12)[:, None, None, None]
            magnitudes = nn.functional.pad(real / level, (max(0, -low), missing))
            # One additional frame completes the last hop.
            own = pending[:, :, start - origin : None if last else start - origin + stride]
            frames = own.shape[2] if end is None else min(own.shape[2], end - start)
            yield _Window(start == 0, last, frames, own, magnitudes)
            start += stride
            drop = start - context - origin
            if drop > 0:
                pending, origin = pending[:, :, drop:], origin + drop

    def _batches(self, windows: Iterator[_Window]) -> Iterator[list[_Window]]:
        """Consecutive windows of one length, with at most ``batch_size`` pairs altogether, or one window."""
        for (pairs, *_), same in itertools.groupby(windows, lambda window: window.magnitudes.shape):
            size = max(1, self.options.batch_size // pairs)
            while batch := list(itertools.islice(same, size)):
                yield batch

    def _blended(self, windows: Iterator[_Window]) -> Iterator[tuple[Tensor, Tensor]]:
        overlap, stride = self.overlap, self.window - self.overlap
        taper = torch.ones(self.window)
        if overlap:
            ramp = (torch.arange(overlap) + 0.5) / overlap
            taper[:overlap], taper[-overlap:] = ramp, ramp.flip(0)
        carried: Tensor | None = None  # weighted mask of the overlap with the previous window
        for batch in self._batches(windows):
            pairs = len(batch[0].magnitudes)
            masks = self.mask(torch.cat([window.magnitudes for window in batch])).split(pairs)
            for window, mask in zip(batch, masks, strict=True):
                # The first window does not fade in, the last does not fade out.
                weight = taper.clone()
                if window.first:
                    weight[:overlap] = 1
                if window.last:
                    weight[stride:] = 1
                mask = mask.flatten(0, 1) * weight[: mask.shape[3]]
                if carried is not None:
                    mask[..., :overlap] += carried
                carried = mask[..., stride:] if overlap else None
                # The frame past the song's last takes the mask of that last frame; the Nyquist bin's mask is 0.
                mask = nn.functional.pad(
                    mask[..., : window.frames], (0, window.spectrum.shape[2] - window.frames), mode="replicate"
                )
                yield window.spectrum, 1 - nn.functional.pad(mask, (0, 0, 0, 1))
