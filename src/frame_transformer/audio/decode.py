"""Reading audio of any container and codec that FFmpeg knows, block by block, through PyAV."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from ..errors import AudioError

Source = str | os.PathLike[str] | BinaryIO
# Samples gathered before a block is handed on: about three seconds at 44.1 kHz.
BLOCK_SAMPLES = 1 << 17
# A file that ends this share short of what its header promises is called truncated.
TRUNCATED = 0.98


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says of its first audio stream. ``sample_rate`` in Hz, ``duration`` in seconds."""

    sample_rate: int
    channels: int
    duration: float | None
    codec: str
    container: str
    tags: dict[str, str] = field(default_factory=dict)


class AudioReader:
    """Iterates over the float32 (channels, samples) blocks of a file at its own rate; may be iterated again.

    Args:
        source: a path, or a binary file object that can seek.

    Raises:
        AudioError: the source is missing, no audio, damaged beyond use, or holds NaN or infinite samples.
    """

    def __init__(self, source: Source):
        self.source = source
        self.name = str(getattr(source, "name", "audio") if hasattr(source, "read") else source)
        self.warnings: list[str] = []
        with self._open() as container:
            stream = self._stream(container)
            duration = None
            if stream.duration is not None and stream.time_base is not None:
                duration = float(stream.duration * stream.time_base)
            self.info = AudioInfo(
                sample_rate=stream.rate,
                channels=stream.channels,
                duration=duration,
                codec=stream.codec_context.name,
                container=container.format.name,
                tags={key.lower(): value for key, value in (stream.metadata | container.metadata).items()},
            )

    def _open(self):
        if isinstance(self.source, str | os.PathLike):
            path = Path(self.source)
            if path.is_dir():
                raise AudioError(f"{path}: is a folder, not an audio file")
            if not path.exists():
                raise AudioError(f"{path}: no such file")
            if path.stat().st_size == 0:
                raise AudioError(f"{path}: the file is empty")
            target: str | BinaryIO = str(path)
        else:
            self.source.seek(0)
            target = self.source
        try:
            return av.open(target, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or "unknown format"
            raise AudioError(f"{self.name}: cannot be read as audio ({reason.lower()})") from error

    def _stream(self, container):
        if not container.streams.audio:
            raise AudioError(f"{self.name}: has no audio stream")
        stream = container.streams.audio[0]
        if not stream.rate or not stream.channels:
            raise AudioError(f"{self.name}: is not audio, or damaged beyond use")
        return stream

    def __iter__(self) -> Iterator[np.ndarray]:
        self.warnings = []
        pending: list[np.ndarray] = []
        gathered = total = 0
        for part in self._decoded():
            if not np.isfinite(part).all():
                where = (total + int(np.argmin(np.isfinite(part).all(axis=0)))) / self.info.sample_rate
                raise AudioError(f"{self.name}: holds NaN or infinite samples, the first at {where:.3f} s")
            pending.append(part)
            gathered += part.shape[1]
            total += part.shape[1]
            if gathered >= BLOCK_SAMPLES:
                yield np.concatenate(pending, axis=1)
                pending, gathered = [], 0
        if pending:
            yield np.concatenate(pending, axis=1)
        if total == 0:
            raise AudioError(f"{self.name}: holds no audio samples")
        seconds = total / self.info.sample_rate
        if self.info.duration and seconds < TRUNCATED * self.info.duration - 0.1:
            self.warnings.append(f"{self.name}: truncated, {seconds:.1f} s of {self.info.duration:.1f} s could be read")

    def _decoded(self) -> Iterator[np.ndarray]:
        """float32 (channels, samples) for every frame; damaged packets are left out and counted."""
        damaged = 0
        with self._open() as container:
            stream = self._stream(container)
            stream.thread_type = "AUTO"
            resampler = av.AudioResampler("flt", stream.layout, stream.rate)
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                    if packet is None:
                        break
                    frames = packet.decode()
                except av.FFmpegError:
                    damaged += 1
                    if packet is None:
                        break
                    continue
                for frame in frames:
                    frame.pts = None
                    for converted in resampler.resample(frame):
                        yield converted.to_ndarray().reshape(-1, self.info.channels).T
            for converted in resampler.resample(None):
                yield converted.to_ndarray().reshape(-1, self.info.channels).T
        if damaged:
            self.warnings.append(f"{self.name}: {damaged} damaged packets were left out")


def decode(source: Source) -> tuple[np.ndarray, int]:
    """The whole file as float32 (channels, samples), and its rate in Hz. Raises as :class:`AudioReader`."""
    reader = AudioReader(source)
    return np.concatenate(list(reader), axis=1), reader.info.sample_rate
