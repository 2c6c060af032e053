"""Decoding, encoding, resampling and spectrograms; independent of the models."""

from .channels import remix
from .formats import FORMATS, audio_suffixes, find_codec, kept_bit_depth
from .info import AudioInfo, probe
from .reader import AudioReader, decode
from .resampling import Resampler, resample, resampled_length
from .stft import StreamingISTFT, StreamingSTFT
from .writer import AudioWriter, VideoWriter, reported

__all__ = [
    "FORMATS",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Resampler",
    "StreamingISTFT",
    "StreamingSTFT",
    "VideoWriter",
    "audio_suffixes",
    "decode",
    "find_codec",
    "kept_bit_depth",
    "probe",
    "remix",
    "reported",
    "resample",
    "resampled_length",
]
