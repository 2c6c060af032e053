"""Decoding, encoding, resampling and spectrograms; knows no models."""

from .decode import AudioInfo, AudioReader, decode
from .encode import FORMATS, AudioWriter
from .resample import Resampler
from .stft import StreamingISTFT, StreamingSTFT

__all__ = [
    "FORMATS",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Resampler",
    "StreamingISTFT",
    "StreamingSTFT",
    "decode",
]
