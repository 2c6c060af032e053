"""Reading audio of any container and codec that FFmpeg knows, block by block, through PyAV."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.stream import Disposition

from ..errors import AudioError
from .resample import Resampler

Source = str | os.PathLike[str] | BinaryIO

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
# A file that ends this share short of what its header promises is called truncated.
TRUNCATED = 0.98
# What multiplexers write about the file itself: wrong once copied to another file.
TECHNICAL_TAGS = {
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "handler_name",
    "vendor_id",
    "language",
    "creation_time",
    "duration",
    "itunsmpb",
    "metadata_block_picture",
}


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says of an audio stream. ``sample_rate`` in Hz, ``duration`` in seconds.

    ``tags`` have FFmpeg's names in lower case (``title``, ``artist``, ``album``, ``date``, ``track``, ...); ``cover``
    is the attached picture, its bytes as stored.
    """

    sample_rate: int
    channels: int
    duration: float | None
    codec: str
    container: str
    tags: dict[str, str] = field(default_factory=dict)
    cover: bytes | None = field(default=None, repr=False)


def _open_file(source: Source) -> AbstractContextManager[BinaryIO]:
    """The source as a binary file at its start; a file object of the caller's stays open afterwards."""
    if not isinstance(source, str | os.PathLike):
        source.seek(0)
        return nullcontext(source)
    path = Path(source)
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file")
        if path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty")
        return path.open("rb")
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _open_container(file: BinaryIO, name: str, stream: int) -> Any:
    try:
        # FFmpeg gets an open file, never a name, so that a colon in a name is no protocol; the whitelist keeps a
        # playlist that poses as a song from opening other files or addresses.
        container = av.open(file, metadata_errors="replace", options={"protocol_whitelist": "none"})
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "unknown format"
        raise AudioError(f"{name}: cannot be read as audio ({reason.lower()})") from error
    streams = container.streams.audio
    if stream < len(streams) and streams[stream].codec_context and streams[stream].rate and streams[stream].channels:
        return container
    count = len(streams)
    container.close()
    if count == 0:
        raise AudioError(f"{name}: has no audio stream")
    if stream >= count:
        raise AudioError(f"{name}: has {count} audio streams, number {stream} is missing")
    raise AudioError(f"{name}: is not audio, or damaged beyond use")


def _read_info(container: Any, number: int) -> AudioInfo:
    stream = container.streams.audio[number]
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    tags = {key.lower(): value for key, value in (stream.metadata | container.metadata).items() if value}
    pictures = [video for video in container.streams.video if video.disposition & Disposition.attached_pic]
    return AudioInfo(
        sample_rate=stream.rate,
        channels=stream.channels,
        duration=duration,
        codec=stream.codec_context.name,
        container=container.format.name,
        tags={key: value for key, value in tags.items() if key not in TECHNICAL_TAGS},
        cover=bytes(next(container.demux(pictures[0]))) if pictures else None,
    )


def _name(source: Source) -> str:
    return str(source if isinstance(source, str | os.PathLike) else getattr(source, "name", "audio"))


def probe(source: Source, stream: int = 0) -> AudioInfo:
    """Properties, tags and cover of a file, without decoding it; ``stream`` is the number of the audio stream.

    Raises:
        AudioError: the source is missing, empty, a folder, no audio, or has no such audio stream.
    """
    with _open_file(source) as file, _open_container(file, _name(source), stream) as container:
        return _read_info(container, stream)


class AudioReader:
    """Iterates over the float32 (channels, samples) blocks of a file at its own rate; may be iterated again.

    All blocks but the last have ``block_size`` samples. Integer formats map to [-1, 1), float files are not clipped.
    Encoder delay and padding are removed where the file declares them. After an iteration ``warnings`` says what was
    wrong and did not prevent it.

    Args:
        source: a path, or a binary file object that can seek.
        block_size: samples in a block.
        stream: number (from 0) of the audio stream, for files that hold several.

    Raises:
        AudioError: the source is missing, no audio, damaged beyond use, or holds NaN or infinite samples.
    """

    def __init__(self, source: Source, block_size: int = 1 << 16, stream: int = 0):
        self.source = source
        self.stream = stream
        self.block_size = block_size
        self.name = _name(source)
        self.warnings: list[str] = []
        self.info = probe(source, stream)

    def __iter__(self) -> Iterator[np.ndarray]:
        self.warnings = []
        pending: list[np.ndarray] = []
        gathered = done = 0
        for part in self._decoded():
            pending.append(part)
            gathered += part.shape[1]
            while gathered >= self.block_size:
                joined = np.concatenate(pending, axis=1)
                yield self._checked(joined[:, : self.block_size], done)
                done += self.block_size
                gathered -= self.block_size
                pending = [joined[:, self.block_size :]]
        if gathered:
            yield self._checked(np.concatenate(pending, axis=1), done)
        elif not done:
            raise AudioError(
                f"{self.name}: " + ("nothing in it decodes" if self.warnings else "holds no audio samples")
            )

    def _checked(self, block: np.ndarray, start: int) -> np.ndarray:
        finite = np.isfinite(block)
        if not finite.all():
            where = (start + int(np.argmin(finite.all(axis=0)))) / self.info.sample_rate
            raise AudioError(f"{self.name}: holds NaN or infinite samples, the first at {where:.3f} s")
        return np.ascontiguousarray(block)

    def _decoded(self) -> Iterator[np.ndarray]:
        """float32 (channels, samples) for every frame, the declared padding of the last one cut off."""
        rate, samples = self.info.sample_rate, 0
        with _open_file(self.source) as file, _open_container(file, self.name, self.stream) as container:
            stream = container.streams.audio[self.stream]
            layout, resampler, source_format = stream.layout, None, None
            for frame, is_last in self._frames(container, stream):
                # Streams may change their layout or rate midway (chained or joined files).
                if source_format != (frame.format.name, frame.layout.name, frame.sample_rate):
                    source_format = (frame.format.name, frame.layout.name, frame.sample_rate)
                    resampler = av.AudioResampler("flt", layout, rate)
                end = None
                if is_last and self.info.container.startswith("mov") and frame.duration and frame.time_base:
                    # MP4 states the padding of the last frame as a shorter duration; FFmpeg leaves the samples in.
                    end = round(frame.duration * frame.time_base * rate)
                frame.pts = None
                for converted in cast(av.AudioResampler, resampler).resample(frame):
                    # A view: to_ndarray would copy every frame, and they are joined to blocks anyway.
                    plane: Any = converted.planes[0]  # its type does not say that it is a buffer
                    packed = np.frombuffer(plane, np.float32, converted.samples * self.info.channels)
                    part = packed.reshape(-1, self.info.channels).T[:, :end]
                    samples += part.shape[1]
                    yield part
            self._warn_if_truncated(container, samples / rate)

    def _frames(self, container: Any, stream: Any) -> Iterator[tuple[av.AudioFrame, bool]]:
        """Frames, each with whether it is the last; damaged packets are left out and counted."""
        stream.thread_type = "AUTO"
        packets = container.demux(stream)
        damaged, held = 0, None
        while True:
            packet = None
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet else []
            except av.FFmpegError:
                damaged += 1
                frames = []
            for frame in frames:
                if held is not None:
                    yield held, False
                held = frame
            if packet is None:
                break
        if held is not None:
            yield held, True
        if damaged:
            self.warnings.append(f"{self.name}: {damaged} damaged packets were left out")

    def _warn_if_truncated(self, container: Any, seconds: float) -> None:
        # A video's length is no promise about its sound, and raw AAC has but an estimate from the bitrate.
        has_video = len(container.streams.video) > (self.info.cover is not None)
        if (container.streams.audio[self.stream].duration is None and has_video) or self.info.container == "aac":
            return
        if self.info.duration and 0 < seconds < TRUNCATED * self.info.duration - 0.1:
            self.warnings.append(f"{self.name}: truncated, {seconds:.1f} s of {self.info.duration:.1f} s could be read")


def remix(x: np.ndarray, channels: int) -> np.ndarray:
    """Brings float32 (channels, samples) to another number of channels, 1 to 8.

    Mono is copied to both sides of stereo, stereo averaged to mono; surround sound follows FFmpeg's matrix (ITU-R
    BS.775).

    Raises:
        AudioError: more than 8 channels.
    """
    if len(x) == channels:
        return x
    if (len(x), channels) == (1, 2):
        return np.repeat(x, 2, axis=0)
    if (len(x), channels) == (2, 1):
        return x.mean(axis=0, keepdims=True)
    if len(x) not in LAYOUTS or channels not in LAYOUTS:
        raise AudioError(f"cannot turn {len(x)} channels into {channels}: only 1 to 8 channels can be converted")
    if x.shape[1] == 0:
        return np.zeros((channels, 0), np.float32)
    frame = av.AudioFrame.from_ndarray(x.astype(np.float32, copy=False).T.reshape(1, -1), "flt", LAYOUTS[len(x)])
    frame.sample_rate = 48_000  # any rate: the matrix does not depend on it
    (mixed,) = av.AudioResampler("flt", LAYOUTS[channels], frame.sample_rate).resample(frame)
    return np.ascontiguousarray(mixed.to_ndarray().reshape(-1, channels).T)


def decode(
    source: Source, sample_rate: int | None = None, channels: int | None = None, stream: int = 0
) -> tuple[np.ndarray, int]:
    """The whole file as float32 (channels, samples), and its rate in Hz; resampled and remixed where asked for.

    Raises as :class:`AudioReader`.
    """
    reader = AudioReader(source, stream=stream)
    rate, channels = sample_rate or reader.info.sample_rate, channels or reader.info.channels
    resampler = Resampler(reader.info.sample_rate, rate, channels)
    blocks = [resampler.process(remix(block, channels)) for block in reader]
    blocks.append(resampler.process(np.zeros((channels, 0), np.float32), last=True))
    return np.concatenate(blocks, axis=1), rate
