"""Reading audio files as 44.1 kHz stereo, the format of the training data."""

import numpy as np

from ..audio import decode
from .catalogue import AudioFile

SAMPLE_RATE = 44100


def read(file: AudioFile) -> np.ndarray:
    """A whole file as float32 `(2, samples)` at 44.1 kHz. Raises AudioError if it cannot be decoded."""
    return decode(file.path, SAMPLE_RATE, channels=2, stream=file.stream)[0]
