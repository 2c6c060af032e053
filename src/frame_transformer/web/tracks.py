"""What the page plays and shows of an audio file: samples that every browser reads, and a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..audio import AudioReader, remix

COLUMNS, ROWS = 1000, 200
FRAME = 4096
LOWEST_HZ, HIGHEST_HZ = 40.0, 16_000.0
RANGE_DB = 80.0
PALETTE = np.array([(13, 10, 38), (70, 20, 105), (165, 45, 110), (240, 110, 65), (252, 190, 80), (255, 250, 215)])


def write_samples(source: Path, target: Path, check: Callable[[], None]) -> int:
    """Writes a file of any format as headerless 16-bit stereo and returns its number of samples.

    Headerless, so that the page can fetch any stretch of several tracks and start them on the same sample; ``check``
    is called for every block and may raise.
    """
    samples = 0
    with target.open("wb") as file:
        for block in AudioReader(source):
            check()
            stereo = remix(block, 2)
            samples += stereo.shape[1]
            file.write((stereo.clip(-1, 1) * 32767).round().astype("<i2").T.tobytes())
    return samples


def spectrogram(path: Path, sample_rate: int) -> np.ndarray:
    """Power of a file of :func:`write_samples` over logarithmic frequency and time: (ROWS, COLUMNS), low rows high.

    Every column is the mean of three frames spread over its stretch of the song, so that the cost does not grow with
    the song's length.
    """
    sound = np.memmap(path, "<i2", "r").reshape(-1, 2)
    window = np.hanning(FRAME).astype(np.float32)
    starts = np.linspace(0, max(0, len(sound) - FRAME), 3 * COLUMNS).astype(int)
    edges = np.geomspace(LOWEST_HZ, min(HIGHEST_HZ, sample_rate / 2), ROWS + 1) * FRAME / sample_rate
    low = edges[:-1].astype(int)
    high = np.maximum(np.ceil(edges[1:]).astype(int), low + 1)
    out = np.zeros((ROWS, COLUMNS), np.float32)
    for column in range(COLUMNS):
        frames = np.zeros((3, FRAME), np.float32)
        for frame, start in zip(frames, starts[3 * column : 3 * column + 3], strict=True):
            piece = sound[start : start + FRAME].astype(np.float32).mean(axis=1) / 32768
            frame[: len(piece)] = piece
        power = np.square(np.abs(np.fft.rfft(frames * window))).mean(axis=0)
        total = np.concatenate(([0.0], power.cumsum(dtype=np.float64)))
        out[::-1, column] = (total[np.minimum(high, len(power))] - total[np.minimum(low, len(power) - 1)]) / (
            high - low
        )
    return out


def write_picture(power: np.ndarray, loudest: float, target: Path) -> None:
    """A PNG of :func:`spectrogram`; ``loudest`` is the power of the brightest colour, common to a song's tracks."""
    level = 1 + 10 * np.log10(np.maximum(power, 1e-12) / max(loudest, 1e-12)) / RANGE_DB
    place = np.linspace(0, 1, len(PALETTE))
    colours = np.stack([np.interp(level, place, PALETTE[:, channel]) for channel in range(3)], axis=-1)
    Image.fromarray(colours.astype(np.uint8)).save(target, "PNG", optimize=True)
