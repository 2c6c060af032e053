"""Reading audio in all containers and codecs of FFmpeg, block by block, with PyAV."""

import itertools
import math
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import av
import numpy as np

from ..errors import AudioError
from .channels import remix
from .covers import open_cover
from .faults import Faults
from .info import (
    MAX_RATE,
    MIN_RATE,
    AudioInfo,
    Source,
    choose_stream,
    describe,
    is_picture,
    open_container,
    open_file,
    probe,
    source_name,
)
from .ogg import find_links
from .resampling import Resampler
from .section import Section

Rows = np.ndarray | list[np.ndarray]  # float32, one row per channel
# FFmpeg's packed sample formats: NumPy's type, and what converts a sample to float32 (factor, shift)
SAMPLE_FORMATS: dict[str, tuple[type[np.number], float, float]] = {
    "u8": (np.uint8, 2.0**-7, -1.0),
    "s16": (np.int16, 2.0**-15, 0.0),
    "s32": (np.int32, 2.0**-31, 0.0),
    "s64": (np.int64, 2.0**-63, 0.0),
    "flt": (np.float32, 1.0, 0.0),
    "dbl": (np.float64, 1.0, 0.0),
}

# Jitter of time stamps (s) that is not a gap: if they count samples, and if they come from a coarser clock.
EXACT_JITTER, CLOCK_JITTER = 0.015, 0.05
MAX_SILENCE = 3600.0  # s of all gaps; more means that the time stamps are wrong
CLOCK_RESET = 1.0  # s; time stamps that jump back further restart the clock
MAX_READ_ERRORS = 10  # in a row
# Containers whose duration is estimated from the bitrate or the last time stamps.
GUESSED_LENGTHS = {"aac", "amr", "dts", "loas", "mlp", "mpeg", "mpegts", "ogg", "truehd"}
# Where a header declares the size of the file: first byte, end, number to add.
DECLARED_SIZES = {"avi": (4, 8, 8), "w64": (16, 24, 0), "wav": (4, 8, 8)}
# Codecs whose packets all have about the same size, so that a smaller one at the end is incomplete.
EQUAL_PACKETS = {"mp2", "ac3", "eac3"}
MPEGTS_PACKETS = (188, 192, 204)  # bytes; a whole file is a multiple of one of them


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
        self.name = source_name(source)
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
        faults = Faults(self.name, self.info)
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
        with open_file(self.source) as file:
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
                    self.warnings.append(f"{self.name}: truncated, the end is missing after {seconds:.1f} s")


class _Part:
    """The audio of one container: the whole file, or a link of a chained one. ``seconds`` is how far it was read."""

    def __init__(self, reader: AudioReader, file: Section):
        self.name, self.info, self.warnings = reader.name, reader.info, reader.warnings
        self.fill_gaps = reader.fill_gaps
        self.file = file
        self.seconds = self.silence = 0.0
        self.other_seconds = 0.0  # end of the other streams
        self.origin: float | None = None  # time stamp (s) of the first sample, or of another stream that starts earlier
        self.first_position = 0  # of the audio, in bytes
        self.last_packet: Any = None
        self.smallest_packet = math.inf  # bytes, without the last
        self.read_error = ""

    def rows(self) -> Iterator[Rows]:
        """The decoded frames, with silence in the gaps."""
        with open_container(self.file, self.name) as container:
            stream = choose_stream(container, self.name, self.info.stream)
            self.tick = float(stream.time_base)  # s
            self.other_starts = _start_times(container, stream)
            first_gap = 0.0
            # The format may change within a stream (chained or joined files).
            for form, frames in itertools.groupby(self._frames(container, stream), _form_of):
                if not MIN_RATE <= form[2] <= MAX_RATE:
                    raise AudioError(f"{self.name}: has a part of {form[2]} Hz after {self.seconds:.1f} s")
                convert = _Converter(form, self.info)
                jitter = self._jitter(stream, convert.rate)
                for frame, is_last in frames:
                    if self.fill_gaps and (gap := self._gap_before(frame, jitter)):
                        first_gap = first_gap if self.silence else self.seconds
                        self.silence += gap
                        self.seconds += gap
                        yield from convert.silence(gap)
                    end = None
                    if is_last and self.info.container.startswith("mov") and frame.duration:
                        # MP4 declares padding by a shorter last frame; FFmpeg does not remove the samples.
                        end = round(frame.duration * self.tick * convert.rate)
                    self.seconds += frame.samples / convert.rate
                    yield convert.frame(frame, end)
                yield from convert.finish()
            if self.silence:
                self.warnings.append(
                    f"{self.name}: {self.silence:.2f} s of sound are missing, the first at {first_gap:.2f} s; "
                    "silence is in their place"
                )
            self._check_end(stream)

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
                self.read_error = self.read_error or describe(error)
                errors += 1
                packets = container.demux()
                continue
            if packet is None:
                break
            if packet.size == 0:
                continue
            errors = 0
            if packet.stream_index == stream.index:
                if self.last_packet is None:
                    self.first_position = packet.pos or 0
                else:
                    self.smallest_packet = min(self.smallest_packet, self.last_packet.size)
                self.last_packet = packet
                yield packet
            elif packet.pts is not None and packet.time_base and not is_picture(packet.stream):
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                self.other_seconds = max(self.other_seconds, end - (container.start_time or 0) / av.time_base)
        if self.file.error:
            self.read_error = describe(self.file.error)

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

    def _check_end(self, stream: Any) -> None:
        """Warns if the file ends too early: before the length that it declares, or within a packet."""
        seconds, declared = max(self.seconds, self.other_seconds), self._declared_seconds(stream)
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
        elif self._ends_within_packet():
            self.warnings.append(f"{self.name}: truncated, the end is missing after {self.seconds:.1f} s")

    def _declared_seconds(self, stream: Any) -> float | None:
        """The length that the file declares; None if there is only an estimate."""
        container, duration = self.info.container, self.info.duration
        if container in GUESSED_LENGTHS or not duration or not self.seconds:
            return None
        if container == "flac":
            header = stream.codec_context.extradata or b""  # STREAMINFO
            return (int.from_bytes(header[13:18]) & (1 << 36) - 1) / self.info.sample_rate
        if container == "mp3":
            # The number of frames is in a frame before the first with audio; without it the length is an estimate.
            self.file.seek(max(0, self.first_position - 4096))
            before = self.file.read(min(4096, self.first_position))
            return duration if re.search(rb"\xff[\xe2-\xff].{2,36}(Xing|Info|VBRI)", before, re.DOTALL) else None
        if container in DECLARED_SIZES:
            start, end, more = DECLARED_SIZES[container]
            self.file.seek(0)
            declared = int.from_bytes(self.file.read(end)[start:], "little") + more
            size = self.file.size
            # Programs that write to a pipe declare a size near the maximum.
            return self.seconds * declared / size if size < declared < 0x7FFF0000 else None
        return duration

    def _ends_within_packet(self) -> bool:
        if self.last_packet is None:
            return False
        if self.info.container == "mpegts":
            return all(self.file.size % size for size in MPEGTS_PACKETS)
        is_short = self.info.codec in EQUAL_PACKETS and self.last_packet.size < self.smallest_packet
        return is_short or bool(self.last_packet.is_corrupt)


def _start_times(container: Any, stream: Any) -> list[float]:
    """Where the other audio and video streams start (s), as far as that is known."""
    return [
        float(other.start_time * other.time_base)
        for other in container.streams
        if other.type in ("audio", "video") and other.index != stream.index and not is_picture(other)
        if other.start_time is not None and other.time_base
    ]


Form = tuple[str, str, int]  # sample format, channel layout, sample rate


def _form_of(item: tuple[av.AudioFrame, bool]) -> Form:
    frame = item[0]
    return frame.format.name, frame.layout.name, frame.sample_rate


class _Converter:
    """Converts frames of one form to float32 rows with the sample rate and channels of the file."""

    def __init__(self, form: Form, info: AudioInfo):
        sample_format, layout, self.rate = form
        self.channels = info.channels
        self.own_channels = av.AudioLayout(layout).nb_channels
        self.is_planar = av.AudioFormat(sample_format).is_planar
        packed = sample_format.removesuffix("p")
        self._type, self._factor, self._shift = SAMPLE_FORMATS[packed]
        self._packed = None
        if self.is_planar and self.own_channels >= 8:  # PyAV miscounts eight or more planes
            self.is_planar = False
            self._packed = av.AudioResampler(packed, layout, self.rate)
        self._resampler = Resampler(self.rate, info.sample_rate, info.channels)
        self._is_same = (self.rate, self.own_channels) == (info.sample_rate, info.channels)

    def frame(self, frame: av.AudioFrame, end: int | None) -> Rows:
        """The rows of a frame up to sample ``end``."""
        if self._packed is not None:
            frame.pts = None
            (frame,) = self._packed.resample(frame)
        # Of the frame's own memory, because the rows are copied into blocks anyway.
        planes: Any = frame.planes  # PyAV's type is not declared as a buffer
        if self.is_planar:
            rows: Rows = [self._floats(plane, frame.samples)[:end] for plane in planes]
        else:
            rows = self._floats(planes[0], frame.samples * self.own_channels).reshape(-1, self.own_channels).T[:, :end]
        return rows if self._is_same else self._resampler.process(remix(np.asarray(rows), self.channels))

    def _floats(self, plane: Any, count: int) -> np.ndarray:
        # Not by PyAV's resampler: it raises an exception of its own for every frame, and a Ctrl-C that arrives
        # meanwhile is lost.
        samples = np.frombuffer(plane, self._type, count)
        if self._type is np.float32:
            return samples
        with np.errstate(over="ignore"):  # of float64; infinite samples are refused later
            floats = np.multiply(samples, self._factor, dtype=np.float32, casting="unsafe")
        return floats + self._shift if self._shift else floats

    def silence(self, seconds: float) -> Iterator[Rows]:
        samples = round(seconds * self.rate)
        while samples > 0:
            yield self._resampler.process(np.zeros((self.channels, min(samples, 1 << 16)), np.float32))
            samples -= 1 << 16

    def finish(self) -> Iterator[Rows]:
        yield self._resampler.process(np.zeros((self.channels, 0), np.float32), last=True)


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
