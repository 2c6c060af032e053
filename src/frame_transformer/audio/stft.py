"""Streaming short-time Fourier transform and its inverse, in memory that does not depend on the song's length.

As in ``torch.stft``, frames are centred on multiples of ``hop_length``, with reflect padding and a periodic Hann
window. If the song does not end on a hop, one more frame is appended, so that the inverse is exact to the last sample.
"""

import torch
from torch import Tensor


class StreamingSTFT:
    """Transforms (channels, samples) blocks to complex64 (channels, n_fft / 2 + 1, frames)."""

    def __init__(self, n_fft: int, hop_length: int):
        self.n_fft, self.hop_length = n_fft, hop_length
        self.window = torch.hann_window(n_fft)
        self.samples = 0
        self._buffer: Tensor | None = None
        self._started = False
        self._next = 0

    @property
    def song_frames(self) -> int:
        """The number of frames of ``torch.stft`` for the samples so far, without the appended one."""
        return 1 + self.samples // self.hop_length

    def push(self, block: Tensor) -> Tensor:
        """Adds a block and returns the frames that are complete, possibly none."""
        self.samples += block.shape[1]
        self._buffer = block if self._buffer is None else torch.cat((self._buffer, block), dim=1)
        pad = self.n_fft // 2
        if not self._started:
            if self._buffer.shape[1] <= pad:
                return self._empty(block)
            self._buffer = torch.cat((self._buffer[:, 1 : pad + 1].flip(1), self._buffer), dim=1)
            self._started = True
        return self._frames()

    def finish(self) -> Tensor:
        """Returns the remaining frames."""
        samples, pad = self.samples, self.n_fft // 2
        assert self._buffer is not None
        if not self._started:
            # Too short to reflect: pad with silence.
            self.push(self._buffer.new_zeros(len(self._buffer), pad + 1 - samples))
            self.samples = samples
            right = pad + self.hop_length
        else:
            right = pad + -samples % self.hop_length
        self._buffer = torch.cat((self._buffer, self._buffer[:, -right - 1 : -1].flip(1)), dim=1)
        return self._frames()

    def _empty(self, like: Tensor) -> Tensor:
        return torch.empty(len(like), self.n_fft // 2 + 1, 0, dtype=torch.complex64)

    def _frames(self) -> Tensor:
        assert self._buffer is not None
        ready = (self._buffer.shape[1] - self._next - self.n_fft) // self.hop_length + 1
        if ready <= 0:
            return self._empty(self._buffer)
        frames = self._buffer[:, self._next :].unfold(1, self.n_fft, self.hop_length)
        spectrum = torch.fft.rfft(frames * self.window).transpose(1, 2)
        self._next += ready * self.hop_length
        # Reflecting the end needs at most n_fft / 2 + hop_length samples.
        drop = min(self._next, self._buffer.shape[1] - 2 * self.n_fft)
        if drop > 0:
            self._buffer, self._next = self._buffer[:, drop:], self._next - drop
        return spectrum


class StreamingISTFT:
    """Transforms (channels, n_fft / 2 + 1, frames) to (channels, samples), starting at sample 0."""

    def __init__(self, n_fft: int, hop_length: int):
        self.n_fft, self.hop_length = n_fft, hop_length
        self.window = torch.hann_window(n_fft)
        self._skip = n_fft // 2
        self._signal: Tensor | None = None
        self._envelope = torch.zeros(n_fft - hop_length)

    def push(self, spectrum: Tensor) -> Tensor:
        channels, _, frames = spectrum.shape
        if frames == 0:
            return torch.empty(channels, 0)
        segments = torch.fft.irfft(spectrum.transpose(1, 2), self.n_fft) * self.window
        signal = self._overlap_add(segments)
        envelope = self._overlap_add(self.window.square().expand(1, frames, -1))[0]
        overlap = self.n_fft - self.hop_length
        if self._signal is not None:
            signal[:, :overlap] += self._signal
        envelope[:overlap] += self._envelope
        done = frames * self.hop_length
        self._signal, self._envelope = signal[:, done:], envelope[done:]
        return self._after_padding(signal[:, :done], envelope[:done])

    def finish(self) -> Tensor:
        """Returns the remaining samples, up to the middle of the last frame; none if a window is two hops long."""
        rest = self.n_fft // 2 - self.hop_length
        assert self._signal is not None
        return self._after_padding(self._signal[:, :rest], self._envelope[:rest])

    def _after_padding(self, signal: Tensor, envelope: Tensor) -> Tensor:
        skipped = min(self._skip, signal.shape[1])
        self._skip -= skipped
        return (signal / envelope.clamp_min(1e-11))[:, skipped:]

    def _overlap_add(self, segments: Tensor) -> Tensor:
        # Adding shifted slices takes an eighth of the time of ``fold``.
        channels, frames, _ = segments.shape
        slices = segments.split(self.hop_length, dim=2)
        hops = segments.new_zeros(channels, frames + len(slices) - 1, self.hop_length)
        for shift, part in enumerate(slices):
            hops[:, shift : shift + frames, : part.shape[2]] += part
        return hops.flatten(1)[:, : (frames - 1) * self.hop_length + self.n_fft]
