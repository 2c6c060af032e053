"""Writing audio files and still-picture videos, each whole or not at all, through PyAV."""

import base64
import errno
import io
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

from ..errors import AudioError, OptionError
from ..files import whole
from .decode import LAYOUTS
from .resample import Resampler


@dataclass(frozen=True)
class AudioFormat:
    """A container with its codec by bit depth (None for codecs that have none).

    ``rates`` (Hz) and ``channels`` are what it is limited to, empty for no limit; other rates become
    ``fallback_rate``. ``cover`` says how a picture is stored: as a ``stream``, as a ``comment``, or not at all.
    """

    container: str
    codecs: dict[str | None, str]
    rates: tuple[int, ...] = ()
    fallback_rate: int = 48_000
    channels: tuple[int, ...] = tuple(LAYOUTS)
    cover: str | None = None
    options: dict[str, str] = field(default_factory=dict)


_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (7350, *_MP3_RATES, 64000, 88200, 96000)
# FFmpeg's libopus wrapper permutes the channels of 5.0 and 6.1.
_OPUS_CHANNELS = (1, 2, 3, 4, 6, 8)

FORMATS = {
    # rf64: beyond 4 GiB (an hour and a half of 7.1 at 24 bits) a plain wav header overflows.
    "wav": AudioFormat("wav", {"16": "pcm_s16le", "24": "pcm_s24le", "32f": "pcm_f32le"}, options={"rf64": "auto"}),
    "flac": AudioFormat("flac", {"16": "flac", "24": "flac"}, cover="stream"),
    "mp3": AudioFormat("mp3", {None: "libmp3lame"}, _MP3_RATES, channels=(1, 2), cover="stream"),
    # The ipod container of FFmpeg takes no cover through PyAV; it is mp4 under another brand.
    "m4a": AudioFormat("mp4", {None: "aac"}, _AAC_RATES, cover="stream", options={"brand": "M4A "}),
    # PyAV's FFmpeg has no good Vorbis encoder: Ogg files hold Opus, which every player of the last decade reads.
    "ogg": AudioFormat("ogg", {None: "libopus"}, (48000,), channels=_OPUS_CHANNELS, cover="comment"),
    "opus": AudioFormat("opus", {None: "libopus"}, (48000,), channels=_OPUS_CHANNELS, cover="comment"),
}


def find_codec(name: str, bit_depth: str | None, formats: dict[str, AudioFormat] = FORMATS) -> tuple[AudioFormat, str]:
    """A format by name and the codec for a bit depth (16 where the format has one and None is asked for).

    Raises:
        OptionError: a format or bit depth that does not exist.
    """
    if name not in formats:
        raise OptionError(f"unknown audio format {name!r}: use one of {', '.join(formats)}")
    kind = formats[name]
    if None in kind.codecs:
        if bit_depth is not None:
            raise OptionError(f"{name} has no bit depth: leave it out, or use wav or flac")
        return kind, kind.codecs[None]
    depth = bit_depth or "16"
    if depth not in kind.codecs:
        raise OptionError(f"{name} has no bit depth {depth}: use {', '.join(str(d) for d in kind.codecs)}")
    return kind, kind.codecs[depth]


_REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another output folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another output folder",
    errno.EACCES: "no permission to write there; choose another output folder",
    errno.EPERM: "no permission to write there; choose another output folder",
    errno.EROFS: "the file system is read-only; choose another output folder",
    errno.ENAMETOOLONG: "the name is too long for the file system; choose a shorter one",
    errno.ENOTDIR: "what should be its folder is a file; choose another output folder",
    errno.EISDIR: "a folder of that name exists; choose another name",
}


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turns errors of the file system and of FFmpeg into one line about ``path``."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        code = getattr(error, "errno", None) or 0
        reason = _REASONS.get(code) or getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be written: {reason}") from error


def _open_picture(cover: bytes) -> tuple[bytes, Image.Image] | None:
    """A cover as JPEG or PNG bytes beside the opened picture; None when it is no readable picture."""
    try:
        image: Image.Image = Image.open(io.BytesIO(cover))
        if image.format in ("JPEG", "PNG"):
            return cover, image
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=95)
        return buffer.getvalue(), Image.open(buffer)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _picture_comment(data: bytes, image: Image.Image) -> str:
    """A picture as the METADATA_BLOCK_PICTURE comment of Ogg files (RFC 9639, section 8.8, in base64)."""
    mime = Image.MIME[cast(str, image.format)].encode()
    front_cover, bits_per_pixel = 3, 24
    head = struct.pack(
        f">II{len(mime)}sI5I", front_cover, len(mime), mime, 0, *image.size, bits_per_pixel, 0, len(data)
    )
    return base64.b64encode(head + data).decode()


class AudioWriter:
    """Encodes float32 (channels, samples) blocks to a file that appears when the writer closes without an error.

    A rate that the format cannot hold is resampled to one that it can. A cover that is no readable picture, or that
    the format cannot hold, is left out.

    Args:
        path: the file; its suffix names the format unless ``audio_format`` does.
        sample_rate: Hz. channels: 1 to 8.
        audio_format: a key of ``FORMATS``.
        bit_depth: ``"16"``, ``"24"`` or ``"32f"`` for wav, ``"16"`` or ``"24"`` for flac; 16 by default.
        bitrate: bits per second of a lossy codec; the codec's default when None.
        tags: metadata entries.
        cover: the bytes of a picture.

    Raises:
        OptionError: a format or bit depth that does not exist. AudioError: the file cannot be written.
    """

    _formats = FORMATS

    def __init__(
        self,
        path: str | os.PathLike[str],
        sample_rate: int,
        channels: int,
        *,
        audio_format: str | None = None,
        bit_depth: str | None = None,
        bitrate: int | None = None,
        tags: dict[str, str] | None = None,
        cover: bytes | None = None,
    ):
        self.path = Path(path)
        name = (audio_format or self.path.suffix.removeprefix(".")).lower()
        kind, codec = find_codec(name, bit_depth, self._formats)
        if channels not in kind.channels:
            allowed = ", ".join(map(str, kind.channels))
            raise AudioError(
                f"{self.path}: cannot be written: {name} holds {allowed} channels, not {channels}; try wav or flac"
            )
        self.layout = LAYOUTS[channels]
        self.rate = sample_rate if not kind.rates or sample_rate in kind.rates else kind.fallback_rate
        self._resampler = Resampler(sample_rate, self.rate, channels)
        self._channels, self._written = channels, 0
        picture = _open_picture(cover) if cover and kind.cover else None
        with reported(self.path):
            # What is wrong with the name should be known now, not after an hour of separation.
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            self._target = ExitStack()
            self._file = self._target.enter_context(whole(self.path)).open("xb")
        try:
            self._container = av.open(self._file, "w", format=kind.container, options=kind.options)
            self._container.metadata.update(tags or {})
            self._stream = cast(Any, self._container.add_stream(codec, rate=self.rate, layout=self.layout))
            if codec == "flac" and bit_depth == "24":
                self._stream.codec_context.format = "s32"
                self._stream.codec_context.options = {"bits_per_raw_sample": "24"}
            if bitrate is not None:
                self._stream.bit_rate = bitrate
            self._add_picture(picture, kind.cover)
        except BaseException as error:
            self._discard(error)
            if not isinstance(error, av.FFmpegError | OSError | ValueError):
                raise
            reason = _REASONS.get(getattr(error, "errno", None) or 0)
            reason = reason or f"{name} cannot hold {channels} channels at {sample_rate} Hz; try wav or flac"
            raise AudioError(f"{self.path}: cannot be written: {reason}") from error

    def _add_picture(self, picture: tuple[bytes, Image.Image] | None, how: str | None) -> None:
        if picture is not None and how == "comment":
            self._container.metadata["METADATA_BLOCK_PICTURE"] = _picture_comment(*picture)
        elif picture is not None:
            data, image = picture
            codec = "png" if image.format == "PNG" else "mjpeg"
            stream = cast(Any, self._container.add_mux_stream(codec, width=image.width, height=image.height))
            stream.disposition = Disposition.attached_pic
            self._container.start_encoding()
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
            self._container.mux(packet)
        self._container.start_encoding()

    def __enter__(self) -> "AudioWriter":
        return self

    def write(self, block: np.ndarray) -> None:
        """Encodes float32 (channels, samples); values beyond ±1 are clipped by integer and most lossy formats."""
        with reported(self.path):
            self._encode(self._resampler.process(block))

    def _encode(self, block: np.ndarray) -> None:
        if block.shape[1] == 0:
            return
        # Interleaved: PyAV sees no more than eight planes of a planar frame.
        interleaved = np.ascontiguousarray(block.T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, "flt", self.layout)
        frame.sample_rate, frame.time_base, frame.pts = self.rate, Fraction(1, self.rate), self._written
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))

    def _flush(self) -> None:
        self._encode(self._resampler.process(np.zeros((self._channels, 0), np.float32), last=True))
        self._container.mux(self._stream.encode(None))

    def _discard(self, error: BaseException) -> None:
        """Closes what is open and has the temporary file removed."""
        with suppress(av.FFmpegError, OSError, AttributeError):
            self._container.close()
        with suppress(OSError):
            self._file.close()
        self._target.__exit__(type(error), error, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard(error)
            return
        with reported(self.path):
            try:
                self._flush()
                self._container.close()
                self._file.close()
            except BaseException as failure:
                self._discard(failure)
                raise
            self._target.close()


class VideoWriter(AudioWriter):
    """Writes an ``.mp4`` video: AAC under a still picture (the cover, else a dark frame), H.264, one frame a second.

    Used as :class:`AudioWriter`.
    """

    _formats = {"mp4": replace(FORMATS["m4a"], options={})}  # noqa: RUF012
    _size = (1280, 720)

    def _add_picture(self, picture: tuple[bytes, Image.Image] | None, how: str | None) -> None:
        canvas = Image.new("RGB", self._size, (16, 16, 20))
        if picture is not None:
            image = picture[1].convert("RGB")
            image.thumbnail(self._size)
            canvas.paste(image, ((canvas.width - image.width) // 2, (canvas.height - image.height) // 2))
        options = {"preset": "veryfast", "tune": "stillimage"}
        self._video = cast(Any, self._container.add_stream("libx264", rate=1, options=options))
        self._video.width, self._video.height = self._size
        self._video.pix_fmt = "yuv420p"
        self._picture = av.VideoFrame.from_image(canvas).reformat(format="yuv420p")
        self._shown = 0
        self._container.start_encoding()

    def _encode(self, block: np.ndarray) -> None:
        super()._encode(block)
        while self._shown * self.rate < self._written:
            self._picture.pts, self._picture.time_base = self._shown, Fraction(1)
            self._container.mux(self._video.encode(self._picture))
            self._shown += 1

    def _flush(self) -> None:
        super()._flush()
        self._container.mux(self._video.encode(None))
