"""Decoding, encoding, resampling and spectrograms; knows no models."""

from .decode import AudioInfo, AudioReader, decode, probe, remix
from .encode import FORMATS, AudioWriter, VideoWriter, find_codec, reported
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
    "VideoWriter",
    "decode",
    "find_codec",
    "probe",
    "remix",
    "reported",
    "resample",
    "resampled_length",
]
