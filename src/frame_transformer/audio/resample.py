"""Resampling of a stream with soxr, delay compensated."""

import numpy as np
import soxr


class Resampler:
    """Resamples (channels, samples) blocks from ``in_rate`` to ``out_rate`` (Hz); equal rates pass through."""

    def __init__(self, in_rate: float, out_rate: float, channels: int):
        self._stream = (
            None if in_rate == out_rate else soxr.ResampleStream(in_rate, out_rate, channels, dtype="float32")
        )

    def process(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """float32 (channels, samples) → what of the output is ready; ``last`` flushes the rest."""
        if self._stream is None:
            return block
        return (
            self._stream.resample_chunk(np.ascontiguousarray(block.T, np.float32), last=last).reshape(-1, len(block)).T
        )
