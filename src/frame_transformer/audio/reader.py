"""Reading audio in all containers and codecs of FFmpeg, block by block, with PyAV."""

import io
import itertools
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import numpy as np
from av.stream import Disposition

from ..errors import AudioError
from .covers import MAX_PIXELS, open_cover
from .formats import LAYOUTS
from .ogg import find_links
from .resampling import Resampler
from .section import Section

Source = str | os.PathLike[str] | BinaryIO
Rows = np.ndarray | list[np.ndarray]  # float32, one row per channel

# Values outside these limits come from damaged or forged headers, and could use up the memory.
MIN_RATE, MAX_RATE = 1_000, 3_000_000
MAX_CHANNELS = 64
# Larger samples are errors. Codecs overshoot full scale by a few dB; float files may be scaled as integers.
MAX_LEVEL, MAX_FLOAT_LEVEL = 8.0, 65_536.0
# Samples beside a faulty one that are probably in the same damaged frame; the fraction that makes a file unusable.
FAULT_MARGIN, MAX_FAULTS = 2048, 0.1
# Jitter of time stamps (s) that is not a gap: if they count samples, and if they come from a coarser clock.
EXACT_JITTER, CLOCK_JITTER = 0.015, 0.05
MAX_SILENCE = 3600.0  # s of all gaps; more means that the time stamps are wrong
CLOCK_RESET = 1.0  # s; time stamps that jump back further restart the clock
MAX_READ_ERRORS = 10  # in a row
# Containers whose duration is estimated from the bitrate or the last time stamps.
GUESSED_LENGTHS = {"aac", "amr", "dts", "loas", "mlp", "mpeg", "mpegts", "ogg", "truehd"}
# Where a header declares the size of the file: first byte, end, number to add.
DECLARED_SIZES = {"avi": (4, 8, 8), "w64": (16, 24, 0), "wav": (4, 8, 8)}
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


def _open_file(source: Source) -> AbstractContextManager[BinaryIO]:
    """The source as a binary file at position 0. A file object of the caller is left open."""
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise AudioError(f"expected a path or a binary file, got {type(source).__name__}; io.BytesIO reads bytes")
        if isinstance(source, io.TextIOBase):
            raise AudioError(f"{_name(source)}: is opened as text; open it in binary mode")
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
        raise AudioError(f"{_name(file)}: cannot be read twice, as a pipe; save it to a file first")
    file.seek(0)
    return file


def _open_container(file: Section, name: str) -> Any:
    # FFmpeg gets an open file, because it would take a colon in a name for a protocol. The whitelist prevents a
    # playlist disguised as a song from opening other files or URLs. Pictures above the limit are not decoded.
    options = {"protocol_whitelist": "none", "max_pixels": str(MAX_PIXELS)}
    try:
        return av.open(file, metadata_errors="replace", options=options)
    except Exception as error:
        raise AudioError(f"{name}: cannot be read as audio ({_reason(file.error or error)})") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


def _choose_stream(container: Any, name: str, number: int | None) -> Any:
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


def _is_picture(stream: Any) -> bool:
    return bool(stream.type == "video" and stream.disposition & Disposition.attached_pic)


def _others(container: Any, stream: Any) -> list[Any]:
    """The other audio and video streams whose start time is known."""
    return [
        other
        for other in container.streams
        if other.type in ("audio", "video") and other.index != stream.index and not _is_picture(other)
        if other.start_time is not None and other.time_base
    ]


def _read_info(container: Any, stream: Any) -> AudioInfo:
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        duration = container.duration / av.time_base
    tags = {key.lower(): value for key, value in (stream.metadata | container.metadata).items() if value}
    picture = next(filter(_is_picture, container.streams.video), None)
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


def _name(source: Source) -> str:
    return str(source if isinstance(source, str | os.PathLike) else getattr(source, "name", "audio"))


def probe(source: Source, stream: int | None = None) -> AudioInfo:
    """Reads the properties, tags and cover of a file without decoding it.

    ``stream`` is the number (from 0) of the audio stream; None selects the default stream of the file, else the first.

    Raises:
        AudioError: the source is missing, empty, a folder, not audio, or does not have this audio stream.
    """
    with _open_file(source) as file:
        info = _probe_section(Section(file), _name(source), stream)
        if info.container == "ogg" and len(links := find_links(file)) > 1:
            duration = 0.0
            for link in links:
                with suppress(AudioError):
                    part = _probe_section(Section(file, link.start, link.end), _name(source), info.stream)
                    duration += part.duration or 0.0
            info = replace(info, duration=duration)
        return info


def _probe_section(section: Section, name: str, stream: int | None) -> AudioInfo:
    with _open_container(section, name) as container:
        return _read_info(container, _choose_stream(container, name, stream))


class AudioReader:
    """Iterates over a file in float32 (channels, samples) blocks at its own sample rate; can be iterated repeatedly.

    All blocks except the last have ``block_size`` samples. Integer formats are scaled to [-1, 1); float files are not
    clipped. Encoder delay and padding are removed if the file declares them. Chained streams are concatenated, with the
    sample rate and channels of the first. Samples far beyond full scale come from damaged frames and are clipped. After
    an iteration, ``warnings`` lists the problems that were found.

    Args:
        source: a path, or a binary file object that can seek.
        block_size: samples in a block; None for 65536 or two seconds, whichever is less.
        stream: number (from 0) of the audio stream; None for the default stream of the file, else the first.
        fill_gaps: insert silence at gaps in the time stamps, and before audio that starts after the video, so that both
            stay in sync; False leaves such gaps out.

    Raises:
        AudioError: the source is missing, not audio, too damaged to use, or contains NaN or infinite samples.
    """

    def __init__(
        self, source: Source, block_size: int | None = None, stream: int | None = None, fill_gaps: bool = True
    ):
        self.source = source
        self.fill_gaps = fill_gaps
        self.name = _name(source)
        self.info = probe(source, stream)
        self.block_size = block_size or min(1 << 16, 2 * self.info.sample_rate)
        self._known: list[str] = []
        if stream is None and self.info.streams > 1:
            self._known.append(
                f"{self.name}: holds {self.info.streams} audio streams, number {self.info.stream} (from 0) was read"
            )
        self.warnings = list(self._known)

    @cached_property
    def cover(self) -> bytes | None:
        """The cover as JPEG or PNG, or None. A cover that cannot be decoded is left out with a warning."""
        if self.info.cover is None:
            return None
        try:
            return open_cover(self.info.cover).data
        except AudioError as error:
            self._known.append(f"{self.name}: the cover was left out: {error}")
            self.warnings.append(self._known[-1])
            return None

    def __iter__(self) -> Iterator[np.ndarray]:
        self.warnings = list(self._known)
        faults = _Faults(self.name, self.info)
        shape = (self.info.channels, self.block_size)
        block, filled = np.empty(shape, np.float32), 0
        for rows in self._decoded():
            taken, samples = 0, len(rows[0])
            while taken < samples:
                count = min(samples - taken, self.block_size - filled)
                for target, row in zip(block, rows, strict=True):
                    target[filled : filled + count] = row[taken : taken + count]
                taken += count
                filled += count
                if filled == self.block_size:
                    yield faults.clipped(block)
                    block, filled = np.empty(shape, np.float32), 0
        if filled:
            yield faults.clipped(np.ascontiguousarray(block[:, :filled]))
        elif not faults.samples:
            damaged = len(self.warnings) > len(self._known)
            raise AudioError(f"{self.name}: " + ("nothing in it decodes" if damaged else "holds no audio samples"))
        self.warnings += faults.warnings()

    def _decoded(self) -> Iterator[Rows]:
        """All frames and gaps of the file."""
        with _open_file(self.source) as file:
            if self.info.container != "ogg":
                yield from _Part(self, Section(file)).rows()
                return
            seconds = 0.0
            for number, link in enumerate(find_links(file)):
                part = _Part(self, Section(file, link.start, link.end))
                try:
                    yield from part.rows()
                except AudioError as error:
                    if number == 0:
                        raise
                    self.warnings.append(f"{error}: a part after {seconds:.1f} s is missing")
                seconds += part.seconds
                if not link.complete:
                    self.warnings.append(f"{self.name}: truncated, an end is missing after {seconds:.1f} s")


class _Part:
    """The audio of one container: the whole file, or a link of a chained one. ``seconds`` is how far it was read."""

    def __init__(self, reader: AudioReader, file: Section):
        self.name, self.info, self.warnings = reader.name, reader.info, reader.warnings
        self.fill_gaps = reader.fill_gaps
        self.file = file
        self.seconds = self.silence = 0.0
        self.picture_seconds = 0.0  # end of the other streams
        self.first_position: int | None = None  # of the audio, in bytes
        self.read_error = ""

    def rows(self) -> Iterator[Rows]:
        with _open_container(self.file, self.name) as container:
            stream = _choose_stream(container, self.name, self.info.stream)
            self.tick = float(stream.time_base)  # s
            self.other_starts = [float(s.start_time * s.time_base) for s in _others(container, stream)]
            self.origin: float | None = None  # time stamp of the first sample, or of an earlier stream
            first_gap = 0.0
            # The format may change within a stream (chained or joined files).
            for form, frames in itertools.groupby(self._frames(container, stream), _form_of):
                if not MIN_RATE <= form[2] <= MAX_RATE:
                    raise AudioError(f"{self.name}: has a part of {form[2]} Hz after {self.seconds:.1f} s")
                convert = _Converter(form, self.info)
                jitter = self._jitter(stream, convert.rate)
                for frame, is_last in frames:
                    gap = self._gap_before(frame, jitter) if self.fill_gaps else 0.0
                    if gap:
                        first_gap = first_gap if self.silence else self.seconds
                        self.silence += gap
                        self.seconds += gap
                        yield from convert.silence(gap)
                    end = None
                    if is_last and self.info.container.startswith("mov") and frame.duration:
                        # MP4 declares padding by a shorter last frame; FFmpeg does not remove the samples.
                        end = round(frame.duration * self.tick * convert.rate)
                    self.seconds += frame.samples / convert.rate
                    yield from convert.frame(frame, end)
                yield from convert.finish()
            if self.silence:
                self.warnings.append(
                    f"{self.name}: {self.silence:.2f} s of sound are missing, the first at {first_gap:.2f} s; "
                    "silence is in their place"
                )
            self._compare_lengths(stream)

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        """The packets of the stream. After an error the demuxer is asked again, because it may find the next packet."""
        errors = 0
        packets = container.demux()
        while errors < MAX_READ_ERRORS:
            try:
                packet = next(packets, None)
            except IndexError:  # from PyAV: the packet belongs to a stream that was added later
                packets = container.demux()
                continue
            except Exception as error:
                self.read_error = self.read_error or _reason(error)
                errors += 1
                packets = container.demux()
                continue
            if packet is None:
                break
            if packet.size == 0:
                continue
            errors = 0
            if packet.stream_index == stream.index:
                if self.first_position is None:
                    self.first_position = packet.pos
                yield packet
            elif packet.pts is not None and packet.time_base and not _is_picture(packet.stream):
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.picture_seconds = max(self.picture_seconds, end - (container.start_time or 0) / av.time_base)
        if self.file.error:
            self.read_error = _reason(self.file.error)

    def _frames(self, container: Any, stream: Any) -> Iterator[tuple[av.AudioFrame, bool]]:
        """Frames, each with whether it is the last. Damaged packets are skipped and counted."""
        stream.thread_type = "AUTO"
        damaged, held = 0, None
        for packet in itertools.chain(self._packets(container, stream), [None]):
            try:
                frames = stream.decode(packet)
            except Exception:  # errors of FFmpeg, and of PyAV for frames of impossible layouts
                damaged += 1
                continue
            for frame in frames:
                if held is not None:
                    yield held, False
                held = frame
        if held is not None:
            yield held, True
        if damaged:
            self.warnings.append(f"{self.name}: {damaged} damaged packets were left out")

    def _jitter(self, stream: Any, rate: int) -> float:
        if self.info.container == "flac":
            return 0.5 / rate  # frames are numbered by samples
        counts_samples = (1 / (stream.time_base * rate)).denominator == 1
        return EXACT_JITTER if counts_samples else CLOCK_JITTER

    def _gap_before(self, frame: av.AudioFrame, jitter: float) -> float:
        """Seconds between the end of the audio so far and this frame, according to the time stamps."""
        if frame.pts is None:
            return 0.0
        time = frame.pts * self.tick
        if self.origin is None:
            self.origin = min([time, *self.other_starts])
        gap = time - self.origin - self.seconds
        if gap < -CLOCK_RESET or gap + self.silence > MAX_SILENCE:
            self.origin += gap
            return 0.0
        return gap if gap > jitter else 0.0

    def _compare_lengths(self, stream: Any) -> None:
        """Warns if less could be read than the file declares. Estimated lengths are ignored."""
        seconds, declared = max(self.seconds, self.picture_seconds), self._declared_seconds(stream)
        reason = f" ({self.read_error})" if self.read_error else ""
        if declared:
            # FLAC declares the number of samples, other containers an approximate duration.
            tolerance = 1e-6 if self.info.container == "flac" else 0.1 + 0.001 * declared
            digits = 1 if abs(declared - seconds) > 0.1 else 3
            read, promised = f"{seconds:.{digits}f} s", f"{declared:.{digits}f} s"
            if seconds < declared - tolerance:
                self.warnings.append(f"{self.name}: truncated, {read} of {promised} could be read{reason}")
                return
            if seconds > declared + tolerance and self.info.container == "flac":
                self.warnings.append(f"{self.name}: damaged, {read} could be read where {promised} should be")
        if reason:
            self.warnings.append(f"{self.name}: cannot be read beyond {self.seconds:.1f} s{reason}")

    def _declared_seconds(self, stream: Any) -> float | None:
        container, duration = self.info.container, self.info.duration
        if container in GUESSED_LENGTHS or not duration or not self.seconds:
            return None
        if container == "flac":
            header = stream.codec_context.extradata or b""  # STREAMINFO
            return (int.from_bytes(header[13:18]) & (1 << 36) - 1) / self.info.sample_rate
        if container == "mp3":
            # The number of frames is in a frame before the first with audio; without it the length is an estimate.
            first = self.first_position or 0
            self.file.seek(max(0, first - 4096))
            before = self.file.read(min(4096, first))
            return duration if re.search(rb"\xff[\xe2-\xff].{2,36}(Xing|Info|VBRI)", before, re.DOTALL) else None
        if container in DECLARED_SIZES:
            start, end, more = DECLARED_SIZES[container]
            self.file.seek(0)
            declared = int.from_bytes(self.file.read(end)[start:], "little") + more
            size = self.file.size
            # Programs that write to a pipe declare a size near the maximum.
            return self.seconds * declared / size if size < declared < 0x7FFF0000 else None
        return duration


Form = tuple[str, str, int]  # sample format, channel layout, sample rate


def _form_of(item: tuple[av.AudioFrame, bool]) -> Form:
    frame = item[0]
    return frame.format.name, frame.layout.name, frame.sample_rate


class _Converter:
    """Converts frames of one form to float32 rows with the sample rate and channels of the file."""

    def __init__(self, form: Form, info: AudioInfo):
        _, layout, self.rate = form
        self.channels = info.channels
        self.own_channels = av.AudioLayout(layout).nb_channels
        # PyAV miscounts eight or more planes.
        self.is_planar = self.own_channels < 8
        self._floats = av.AudioResampler("fltp" if self.is_planar else "flt", layout, self.rate)
        self._resampler = Resampler(self.rate, info.sample_rate, info.channels)
        self._is_same = (self.rate, self.own_channels) == (info.sample_rate, info.channels)

    def frame(self, frame: av.AudioFrame, end: int | None) -> Iterator[Rows]:
        """The rows of a frame up to sample ``end``."""
        frame.pts = None
        for converted in self._floats.resample(frame):
            # Views, because the rows are copied into blocks anyway; to_ndarray would copy every frame.
            planes: Any = converted.planes  # PyAV's type is not declared as a buffer
            samples = converted.samples
            if self.is_planar:
                rows: Rows = [np.frombuffer(plane, np.float32, samples)[:end] for plane in planes]
            else:
                packed = np.frombuffer(planes[0], np.float32, samples * self.own_channels)
                rows = packed.reshape(-1, self.own_channels).T[:, :end]
            yield rows if self._is_same else self._resampler.process(remix(np.asarray(rows), self.channels))

    def silence(self, seconds: float) -> Iterator[Rows]:
        samples = round(seconds * self.rate)
        while samples > 0:
            yield self._resampler.process(np.zeros((self.channels, min(samples, 1 << 16)), np.float32))
            samples -= 1 << 16

    def finish(self) -> Iterator[Rows]:
        yield self._resampler.process(np.zeros((self.channels, 0), np.float32), last=True)


class _Faults:
    """Clips and counts samples far beyond full scale."""

    def __init__(self, name: str, info: AudioInfo):
        self.name, self.rate = name, info.sample_rate
        self.is_float = info.bit_depth == "32f"
        self.limit = MAX_FLOAT_LEVEL if self.is_float else MAX_LEVEL
        self.samples = 0
        self.faults = 0
        self.first = 0
        self.peak = 0.0

    def clipped(self, block: np.ndarray) -> np.ndarray:
        """Returns the block with faulty samples clipped.

        Raises AudioError for NaN or infinite samples.
        """
        if not (block.max() <= self.limit and block.min() >= -self.limit):  # NaN fails every comparison
            finite = np.isfinite(block).all(axis=0)
            if not finite.all():
                where = (self.samples + int(np.argmin(finite))) / self.rate
                raise AudioError(f"{self.name}: holds NaN or infinite samples, the first at {where:.3f} s")
            level = np.abs(block).max(axis=0)
            faults = np.flatnonzero(level > self.limit)
            if not self.faults:
                self.first = self.samples + int(faults[0])
            self.faults += len(faults)
            self.peak = max(self.peak, float(level.max()))
            margin = 0 if self.is_float else FAULT_MARGIN
            for start, end in _ranges(faults, margin):
                np.clip(block[:, start:end], -1, 1, out=block[:, start:end])
        self.samples += block.shape[1]
        return block

    def warnings(self) -> list[str]:
        """A warning about clipped samples, if any. Raises AudioError if there were too many."""
        if not self.faults:
            return []
        level = f"up to {20 * np.log10(self.peak):+.0f} dB over full scale"
        if self.faults > MAX_FAULTS * self.samples:
            raise AudioError(f"{self.name}: its samples are far too large ({level}); scale them to ±1")
        first = f"the first at {self.first / self.rate:.2f} s"
        return [f"{self.name}: {self.faults} samples of damaged sound were clipped: {level}, {first}"]


def _ranges(samples: np.ndarray, margin: int) -> Iterator[tuple[int, int]]:
    """Merged (start, end) ranges of ``margin`` samples around each of the sorted sample numbers."""
    for group in np.split(samples, np.flatnonzero(np.diff(samples) > 2 * margin + 1) + 1):
        yield max(0, int(group[0]) - margin), int(group[-1]) + margin + 1


def remix(x: np.ndarray, channels: int) -> np.ndarray:
    """Converts float32 (channels, samples) to another number of channels, 1 to 8.

    Mono is copied to both channels of stereo, and stereo is averaged to mono. Surround uses FFmpeg's matrix (ITU-R
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
    frame.sample_rate = 48_000  # arbitrary: the matrix does not depend on it
    (mixed,) = av.AudioResampler("flt", LAYOUTS[channels], frame.sample_rate).resample(frame)
    return np.ascontiguousarray(mixed.to_ndarray().reshape(-1, channels).T)


def decode(
    source: Source, sample_rate: int | None = None, channels: int | None = None, stream: int | None = None
) -> tuple[np.ndarray, int]:
    """Decodes a whole file, and resamples and remixes it if requested.

    Returns:
        float32 (channels, samples), and the sample rate in Hz.

    Raises:
        AudioError: as for :class:`AudioReader`.
    """
    reader = AudioReader(source, stream=stream)
    rate, channels = sample_rate or reader.info.sample_rate, channels or reader.info.channels
    resampler = Resampler(reader.info.sample_rate, rate, channels)
    blocks = [resampler.process(remix(block, channels)) for block in reader]
    blocks.append(resampler.process(np.zeros((channels, 0), np.float32), last=True))
    return np.concatenate(blocks, axis=1), rate
