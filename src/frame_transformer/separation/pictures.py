"""Spectrogram pictures of a separation, computed while it is streamed."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..audio import StreamingSTFT, reported
from ..files import whole
from .options import PICTURES
from .stream import StemBlock

N_FFT, HOP_LENGTH = 2048, 1024
MAX_COLUMNS = 2048
RANGE_DB = 80.0
# From silence to full level: black, violet, red, yellow, white.
COLOURS = np.array([(0, 0, 8), (70, 15, 110), (200, 45, 70), (250, 180, 50), (255, 255, 230)], np.float32)


class _Columns:
    """Magnitudes (bins, frames) of a stream in at most ``MAX_COLUMNS`` columns: a full picture is halved in width."""

    def __init__(self) -> None:
        self._stft = StreamingSTFT(N_FFT, HOP_LENGTH)
        self._frames_in_column = 1
        self._columns = np.zeros((N_FFT // 2 + 1, 0), np.float32)
        self._rest = self._columns

    def push(self, block: np.ndarray) -> None:
        self._add(self._stft.push(torch.from_numpy(block.mean(axis=0, keepdims=True))))

    def finish(self) -> np.ndarray:
        self._add(self._stft.finish())
        if not self._rest.size:
            return self._columns
        return np.concatenate((self._columns, self._rest.mean(axis=1, keepdims=True)), axis=1)

    def _add(self, spectrum: torch.Tensor) -> None:
        frames = np.concatenate((self._rest, spectrum[0].abs().numpy()), axis=1)
        whole = frames.shape[1] // self._frames_in_column * self._frames_in_column
        self._columns = np.concatenate((self._columns, _means(frames[:, :whole], self._frames_in_column)), axis=1)
        self._rest = frames[:, whole:]
        while self._columns.shape[1] > MAX_COLUMNS:
            even = self._columns.shape[1] // 2 * 2
            # An odd last column becomes frames again; copies of their mean have the same mean.
            left = np.repeat(self._columns[:, even:], self._frames_in_column, axis=1)
            self._columns = _means(self._columns[:, :even], 2)
            self._rest = np.concatenate((left, self._rest), axis=1)
            self._frames_in_column *= 2


def _means(columns: np.ndarray, count: int) -> np.ndarray:
    return columns.reshape(len(columns), -1, count).mean(axis=2)


class SpectrogramPictures:
    """Pictures of mixture, vocals, instrumental and mask; time to the right, frequency upwards to half the rate.

    The first three show levels from 0 to -80 dB relative to the loudest point of the mixture. The mask shows the share
    of the instrumental from black to white. Memory is bounded: long songs have more frames per column.
    """

    def __init__(self) -> None:
        self._parts = {name: _Columns() for name in PICTURES[:3]}

    def push(self, block: StemBlock) -> None:
        """Adds the next block of the song."""
        for name, columns in self._parts.items():
            columns.push(getattr(block, name))

    def finish(self) -> dict[str, Image.Image]:
        """The pictures by name, once the song has ended."""
        parts = {name: columns.finish() for name, columns in self._parts.items()}
        loudest = max(float(parts["mixture"].max()), 1e-12)
        pictures = {name: _coloured(part / loudest) for name, part in parts.items()}
        both = parts["vocals"] + parts["instrumental"]
        share = np.divide(parts["instrumental"], both, out=np.ones_like(both), where=both > 1e-9)
        return pictures | {"mask": Image.fromarray((255 * share[::-1]).astype(np.uint8))}


def _coloured(magnitudes: np.ndarray) -> Image.Image:
    decibels = 20 * np.log10(np.maximum(magnitudes, 1e-12))
    level = np.clip(1 + decibels[::-1] / RANGE_DB, 0, 1)
    steps = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(level, steps, COLOURS[:, channel]) for channel in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a PNG file atomically.

    Raises:
        AudioError: it cannot be written.
    """
    with reported(path), whole(path) as temporary:
        picture.save(temporary, "PNG")
