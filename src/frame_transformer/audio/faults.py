"""Samples that damage has made absurdly large: clipped, or a reason to refuse the file."""

from collections.abc import Iterator

import numpy as np

from ..errors import AudioError
from .info import AudioInfo

# Larger samples are errors. Codecs overshoot full scale by a few dB; float files may be scaled as integers.
MAX_LEVEL, MAX_FLOAT_LEVEL = 8.0, 65_536.0
# Samples beside a faulty one that are probably in the same damaged frame; the fraction that makes a file unusable.
FAULT_MARGIN, MAX_FAULTS = 2048, 0.1


class Faults:
    """Clips and counts samples far beyond full scale."""

    def __init__(self, name: str, info: AudioInfo):
        self.name, self.rate = name, info.sample_rate
        self.is_float = info.bit_depth == "32f"
        self.limit = MAX_FLOAT_LEVEL if self.is_float else MAX_LEVEL
        self.samples = 0
        self.faults = 0
        self.first = 0
        self.peak = 0.0

    def clipped(self, block: np.ndarray) -> np.ndarray:
        """Returns the block with faulty samples clipped.

        Raises AudioError for NaN or infinite samples.
        """
        if not (block.max() <= self.limit and block.min() >= -self.limit):  # NaN fails every comparison
            finite = np.isfinite(block).all(axis=0)
            if not finite.all():
                where = (self.samples + int(np.argmin(finite))) / self.rate
                raise AudioError(f"{self.name}: holds NaN or infinite samples, the first at {where:.3f} s")
            level = np.abs(block).max(axis=0)
            faults = np.flatnonzero(level > self.limit)
            if not self.faults:
                self.first = self.samples + int(faults[0])
            self.faults += len(faults)
            self.peak = max(self.peak, float(level.max()))
            margin = 0 if self.is_float else FAULT_MARGIN
            for start, end in _ranges(faults, margin):
                np.clip(block[:, start:end], -1, 1, out=block[:, start:end])
        self.samples += block.shape[1]
        return block

    def warnings(self) -> list[str]:
        """A warning about clipped samples, if any. Raises AudioError if there were too many."""
        if not self.faults:
            return []
        level = f"up to {20 * np.log10(self.peak):+.0f} dB over full scale"
        if self.faults > MAX_FAULTS * self.samples:
            raise AudioError(f"{self.name}: its samples are far too large ({level}); scale them to ±1")
        first = f"the first at {self.first / self.rate:.2f} s"
        return [f"{self.name}: {self.faults} samples of damaged sound were clipped: {level}, {first}"]


def _ranges(samples: np.ndarray, margin: int) -> Iterator[tuple[int, int]]:
    """Merged (start, end) ranges of ``margin`` samples around each of the sorted sample numbers."""
    for group in np.split(samples, np.flatnonzero(np.diff(samples) > 2 * margin + 1) + 1):
        yield max(0, int(group[0]) - margin), int(group[-1]) + margin + 1
