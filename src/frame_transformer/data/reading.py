"""Audio of any file, rate and channel count as the 44.1 kHz stereo that training uses."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from ..audio import AudioReader, Resampler, remix
from ..errors import AudioError
from .catalogue import AudioFile

SAMPLE_RATE = 44100


def read(file: AudioFile) -> np.ndarray:
    """A whole file as float32 `(2, samples)` at 44.1 kHz. Raises AudioError for what cannot be decoded."""
    return np.concatenate(list(read_blocks(file)), axis=1)


def read_blocks(file: AudioFile) -> Iterator[np.ndarray]:
    """A file as float32 `(2, samples)` blocks at 44.1 kHz. Raises AudioError for what cannot be decoded."""
    if file.stream is not None:
        yield from _stream_blocks(file.path, file.stream)
        return
    reader = AudioReader(file.path)
    resampler = Resampler(reader.info.sample_rate, SAMPLE_RATE, 2)
    for block in reader:
        yield resampler.process(remix(block, 2))
    yield resampler.process(np.zeros((2, 0), np.float32), last=True)


def _stream_blocks(path: Path, stream: int) -> Iterator[np.ndarray]:
    """One of several audio streams, which `AudioReader` does not tell apart: it reads the first."""
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
    try:
        with path.open("rb") as opened, av.open(opened, "r") as container:
            if stream not in range(len(container.streams.audio)):
                count = len(container.streams.audio)
                raise AudioError(f"{path}: has {count} audio streams, number {stream} is missing")
            for frame in container.decode(container.streams.audio[stream]):
                yield from (part.to_ndarray() for part in resampler.resample(frame))
            yield from (part.to_ndarray() for part in resampler.resample(None))
    except (av.FFmpegError, OSError) as error:
        raise AudioError(f"{path}: cannot be decoded ({error.strerror or error})") from error
