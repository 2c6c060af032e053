"""Samples for the player of the page, in one format for all browsers."""

from collections.abc import Callable
from pathlib import Path

from ..audio import AudioReader, remix


def write_samples(source: Path, target: Path, check: Callable[[], None], stream: int | None = None) -> int:
    """Writes a stream of an audio file as headerless 16-bit stereo at its own rate, and returns its number of samples.

    Without a header the page can fetch any range of several tracks and start them on the same sample. ``check`` is
    called for every block and may raise.

    Raises:
        AudioError: the source cannot be read.
    """
    samples = 0
    with target.open("wb") as file:
        for block in AudioReader(source, stream=stream):
            check()
            stereo = remix(block, 2)
            samples += stereo.shape[1]
            file.write((stereo.clip(-1, 1) * 32767).round().astype("<i2").T.tobytes())
    return samples
