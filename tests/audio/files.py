"""Audio files as other programs make them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode_with(path: Path, codec: str, samples: np.ndarray, rate: int, layout: str, container: str):
    """float32 (channels, samples) through PyAV and not through our writer."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout=layout)
        if codec == "wmav2":
            stream.bit_rate = 192_000
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), "flt", layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def write_floats(path: Path, samples: np.ndarray, rate: int) -> Path:
    """A 32-bit float wav of any values."""
    return encode_with(path, "pcm_f32le", samples, rate, {1: "mono", 2: "stereo"}[len(samples)], "wav")
