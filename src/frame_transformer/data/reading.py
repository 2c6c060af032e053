"""Audio of any file, rate and channel count as the 44.1 kHz stereo that training uses."""

from collections.abc import Iterator

import numpy as np

from ..audio import AudioReader, Resampler
from ..errors import AudioError
from .catalogue import AudioFile

SAMPLE_RATE = 44100


class StreamReader(AudioReader):
    """Reads audio stream number ``stream`` of a file, where `AudioReader` takes the first one."""

    def __init__(self, file: AudioFile) -> None:
        self.number = file.stream
        super().__init__(file.path)

    def _stream(self, container):
        first = super()._stream(container)
        if self.number >= len(container.streams.audio):
            raise AudioError(
                f"{self.name}: has {len(container.streams.audio)} audio streams, stream {self.number} is missing"
            )
        return container.streams.audio[self.number] if self.number else first


def blocks(reader: AudioReader) -> Iterator[np.ndarray]:
    """The sound of a reader as float32 `(2, samples)` blocks at 44.1 kHz.

    Mono goes to both sides; of more than two channels the front left and right are kept and the others mixed into
    both at -3 dB.
    """
    resampler = Resampler(reader.info.sample_rate, SAMPLE_RATE, 2)
    for block in reader:
        yield resampler.process(_stereo(block))
    yield resampler.process(np.zeros((2, 0), np.float32), last=True)


def read(file: AudioFile) -> np.ndarray:
    """A whole file as float32 `(2, samples)` at 44.1 kHz. Raises AudioError for what cannot be decoded."""
    return np.concatenate(list(blocks(StreamReader(file))), axis=1)


def _stereo(block: np.ndarray) -> np.ndarray:
    if len(block) == 1:
        return np.repeat(block, 2, axis=0)
    return block[:2] + block[2:].sum(axis=0) * np.float32(0.5**0.5)
