"""Decoding, encoding, resampling and spectrograms; knows no models."""

from .decode import AudioInfo, AudioReader, decode, probe, remix
from .encode import FORMATS, AudioWriter, find_codec, mux_video
from .resample import Resampler, resample, resampled_length
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
    "find_codec",
    "mux_video",
    "probe",
    "remix",
    "resample",
    "resampled_length",
]
