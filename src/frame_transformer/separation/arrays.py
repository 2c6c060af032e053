"""A song in memory, read like a file."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..audio.info import MAX_CHANNELS
from ..errors import AudioError

ARRAY_BLOCK = 1 << 17
LOUDEST = 1e30  # spectrograms of louder samples would overflow float32


class ArrayReader:
    """Iterates over an array or tensor (channels, samples) of floats, or of integers, which are scaled to ±1.

    Raises:
        AudioError: the array has another shape or type, is empty, or contains NaN, infinite or values beyond ±1e30.
    """

    def __init__(self, array: np.ndarray | Tensor):
        if isinstance(array, Tensor):
            array = array.detach().cpu()
            array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
        self._check_shape(array.shape)
        self.samples = self._scaled(array)
        self.warnings: list[str] = []

    @staticmethod
    def _check_shape(shape: tuple[int, ...]) -> None:
        if len(shape) != 2:
            mono = ": pass samples[None] for one channel" if len(shape) == 1 else ""
            raise AudioError(f"expected an array (channels, samples), got {shape}{mono}")
        if 0 in shape:
            raise AudioError(f"the array is empty: {shape}")
        if shape[0] > MAX_CHANNELS:
            turned = ": pass samples.T" if shape[1] <= MAX_CHANNELS else ""
            raise AudioError(f"expected (channels, samples) of up to {MAX_CHANNELS} channels, got {shape}{turned}")

    @staticmethod
    def _scaled(array: np.ndarray) -> np.ndarray:
        if array.dtype == np.uint8:
            return (array.astype(np.float32) - 128) / 128
        if array.dtype in (np.int8, np.int16, np.int32):
            return (array / (np.iinfo(array.dtype).max + 1)).astype(np.float32)
        if array.dtype.kind != "f":
            raise AudioError(
                f"samples of type {array.dtype} have no known full scale: divide by it and pass float32 within ±1"
            )
        peak = max(float(array.max()), -float(array.min()))
        if not peak <= LOUDEST:
            what = "samples beyond ±1e30" if np.isfinite(array).all() else "NaN or infinite samples"
            raise AudioError(f"the array holds {what}")
        return np.asarray(array, dtype=np.float32)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self.samples.shape[1], ARRAY_BLOCK):
            yield self.samples[:, start : start + ARRAY_BLOCK]
