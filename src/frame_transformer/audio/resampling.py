"""Streaming sample-rate conversion with soxr; the output length depends only on the input length."""

import numpy as np
import soxr


def resampled_length(samples: int, in_rate: int, out_rate: int) -> int:
    """The number of samples after resampling ``samples`` samples from ``in_rate`` to ``out_rate`` (Hz), rounded up."""
    return -(-samples * out_rate // in_rate)


class Resampler:
    """Streaming converter from ``in_rate`` to ``out_rate`` (Hz) for blocks of shape ``(channels, samples)``.

    The output does not depend on how the input is divided into blocks, and has ``resampled_length`` samples in all.
    If the rates are equal, blocks are returned unchanged.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        self.in_rate, self.out_rate, self.channels = in_rate, out_rate, channels
        self._stream = soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32", quality="VHQ")
        self._read = self._written = 0

    def process(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Converts float32 ``(channels, samples)``; the result may be empty until there is enough input.

        ``last=True`` ends the stream and returns all remaining samples.
        """
        if self.in_rate == self.out_rate:
            return block
        self._read += block.shape[1]
        output = self._stream.resample_chunk(np.ascontiguousarray(block.T, dtype=np.float32), last=last).T
        # soxr rounds the length to the nearest sample, resampled_length rounds it up.
        total = resampled_length(self._read, self.in_rate, self.out_rate)
        if self._written + output.shape[1] > total:
            output = output[:, : total - self._written]
        elif last:
            output = np.pad(output, ((0, 0), (0, total - self._written - output.shape[1])))
        self._written += output.shape[1]
        return np.ascontiguousarray(output)


def resample(x: np.ndarray, in_rate: int, out_rate: int) -> np.ndarray:
    """Converts float32 ``(channels, samples)`` from ``in_rate`` to ``out_rate`` Hz at once."""
    return Resampler(in_rate, out_rate, x.shape[0]).process(x, last=True)
