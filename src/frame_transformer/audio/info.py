"""Opening audio files, and what their headers say."""

import io
import os
import re
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
from av.stream import Disposition

from ..errors import AudioError
from .covers import MAX_PIXELS
from .ogg import find_links
from .section import Section

Source = str | os.PathLike[str] | BinaryIO

# Values outside these limits come from damaged or forged headers, and could use up the memory.
MIN_RATE, MAX_RATE = 1_000, 3_000_000
MAX_CHANNELS = 64
# Tags that describe the file itself and would be wrong in another file.
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
    """Header information about an audio stream. ``sample_rate`` is in Hz, ``duration`` in seconds.

    ``bit_depth`` is the smallest that stores the samples without loss: ``"16"`` (also for lossy codecs), ``"24"`` or
    ``"32f"``. ``stream`` is the number of the stream among the file's ``streams`` audio streams. ``tags`` have FFmpeg's
    names in lower case (``title``, ``artist``, ``album``, ``date``, ``track``, ...); ``cover`` is the attached picture
    as stored in the file.
    """

    sample_rate: int
    channels: int
    duration: float | None
    codec: str
    container: str
    bit_depth: str
    stream: int
    streams: int
    tags: dict[str, str] = field(default_factory=dict)
    cover: bytes | None = field(default=None, repr=False)


def source_name(source: Source) -> str:
    """What messages call the source."""
    return str(source if isinstance(source, str | os.PathLike) else getattr(source, "name", "audio"))


def open_file(source: Source) -> AbstractContextManager[BinaryIO]:
    """The source as a binary file at position 0. A file object of the caller is left open."""
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise AudioError(f"expected a path or a binary file, got {type(source).__name__}; io.BytesIO reads bytes")
        if isinstance(source, io.TextIOBase):
            raise AudioError(f"{source_name(source)}: is opened as text; open it in binary mode")
        return nullcontext(_rewound(source))
    path = Path(source)
    try:
        if path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file")
        if path.is_file() and path.stat().st_size == 0:
            raise AudioError(f"{path}: the file is empty")
        return cast(AbstractContextManager[BinaryIO], _rewound(path.open("rb")))
    except FileNotFoundError:
        if re.match(r"\w+://", os.fspath(source)):
            raise AudioError(f"{source}: addresses are not read; download the file first") from None
        raise AudioError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from error


def _rewound(file: BinaryIO) -> BinaryIO:
    if not file.seekable():
        raise AudioError(f"{source_name(file)}: cannot be read twice, as a pipe; save it to a file first")
    file.seek(0)
    return file


def open_container(file: Section, name: str) -> Any:
    """The file as PyAV's container. Raises AudioError if FFmpeg recognises no format."""
    # FFmpeg gets an open file, because it would take a colon in a name for a protocol. The whitelist prevents a
    # playlist disguised as a song from opening other files or URLs. Pictures above the limit are not decoded.
    options = {"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
    try:
        return av.open(file, metadata_errors="replace", options=options)
    except Exception as error:
        raise AudioError(f"{name}: cannot be read as audio ({describe(file.error or error)})") from error


def describe(error: Exception) -> str:
    """The reason of an error of the system or of FFmpeg, in lower case."""
    return str(getattr(error, "strerror", None) or error).lower()


def choose_stream(container: Any, name: str, number: int | None) -> Any:
    """The audio stream with this number; without a number, the default stream of the file, else the first."""
    streams = container.streams.audio
    if not streams:
        raise AudioError(f"{name}: has no audio stream")
    if number is not None and not 0 <= number < len(streams):
        raise AudioError(f"{name}: has no audio stream {number}, only 0 to {len(streams) - 1}")
    usable = [s for s in streams if s.codec_context and s.rate and s.channels and s.time_base]
    if number is None:
        stream = next((s for s in usable if s.disposition & Disposition.default), usable[0] if usable else None)
    else:
        stream = streams[number] if streams[number] in usable else None
    if stream is None:
        raise AudioError(f"{name}: is not audio, or damaged beyond use")
    if not MIN_RATE <= stream.rate <= MAX_RATE:
        raise AudioError(f"{name}: has a sample rate of {stream.rate} Hz; {MIN_RATE} to {MAX_RATE} Hz can be read")
    if stream.channels > MAX_CHANNELS:
        raise AudioError(f"{name}: has {stream.channels} channels; up to {MAX_CHANNELS} can be read")
    return stream


def is_picture(stream: Any) -> bool:
    """Whether the stream is a cover picture, not a video."""
    return bool(stream.type == "video" and stream.disposition & Disposition.attached_pic)


def _read_info(container: Any, stream: Any) -> AudioInfo:
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    tags = {key.lower(): value for key, value in (stream.metadata | container.metadata).items() if value}
    picture = next(filter(is_picture, container.streams.video), None)
    packet = next(container.demux(picture), None) if picture else None
    return AudioInfo(
        sample_rate=stream.rate,
        channels=stream.channels,
        duration=duration,
        codec=stream.codec_context.name,
        container=container.format.name,
        bit_depth=_bit_depth(stream.codec_context),
        stream=container.streams.audio.index(stream),
        streams=len(container.streams.audio),
        tags={key: value for key, value in tags.items() if key not in TECHNICAL_TAGS},
        cover=bytes(packet) if packet else None,
    )


def _bit_depth(context: Any) -> str:
    if context.codec.lossy and context.name != "wavpack":  # which has a lossless mode
        return "16"
    depths = {"s32": "24", "flt": "32f", "dbl": "32f"}
    return depths.get(context.format.packed.name, "16") if context.format else "16"


def probe(source: Source, stream: int | None = None) -> AudioInfo:
    """Reads the properties, tags and cover of a file without decoding it.

    ``stream`` is the number (from 0) of the audio stream; None selects the default stream of the file, else the first.

    Raises:
        AudioError: the source is missing, empty, a folder, not audio, or does not have this audio stream.
    """
    with open_file(source) as file:
        info = _probe_section(Section(file), source_name(source), stream)
        if info.container == "ogg" and len(links := find_links(file)) > 1:
            duration = 0.0
            for link in links:
                with suppress(AudioError):
                    part = _probe_section(Section(file, link.start, link.end), source_name(source), info.stream)
                    duration += part.duration or 0.0
            info = replace(info, duration=duration)
        return info


def _probe_section(section: Section, name: str, stream: int | None) -> AudioInfo:
    with open_container(section, name) as container:
        return _read_info(container, choose_stream(container, name, stream))
