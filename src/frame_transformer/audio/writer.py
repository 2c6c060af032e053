"""Writing audio files and videos with a still picture, with PyAV."""

import base64
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

from ..errors import AudioError
from ..files import whole
from .channels import LAYOUTS
from .covers import Cover, open_cover
from .formats import FORMATS, find_codec
from .resampling import Resampler

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
    """Turns errors of the file system and of FFmpeg into an AudioError about ``path``."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        code = getattr(error, "errno", None) or 0
        reason = _REASONS.get(code) or getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be written: {reason}") from error


def _picture_comment(cover: Cover) -> str:
    """A picture as METADATA_BLOCK_PICTURE comment of Ogg files (RFC 9639, section 8.8, in base64)."""
    mime, front_cover, bits_per_pixel = cover.mime_type.encode(), 3, 24
    head = struct.pack(
        f">II{len(mime)}sI5I",
        *(front_cover, len(mime), mime, 0, cover.width, cover.height, bits_per_pixel, 0, len(cover.data)),
    )
    return base64.b64encode(head + cover.data).decode()


class AudioWriter:
    """Encodes float32 (channels, samples) blocks to a file, which appears when the writer closes without an error.

    Audio is resampled if the format does not support its sample rate. A cover that is not a valid picture, or that the
    format does not support, is left out.

    Args:
        path: the file to write. Its suffix determines the format unless ``audio_format`` is given.
        sample_rate: Hz. channels: 1 to 8.
        audio_format: a key of ``FORMATS``.
        bit_depth: ``"16"``, ``"24"`` or ``"32f"`` for wav, ``"16"`` or ``"24"`` for flac; 16 by default.
        bitrate: bits per second of a lossy codec; None for 320,000 (mp3), 256,000 (m4a) or 160,000 (Opus) of stereo.
        tags: metadata entries.
        cover: bytes of a picture.

    Raises:
        OptionError: unknown format or bit depth. AudioError: the file cannot be written.
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
        picture = None
        if cover and kind.cover:
            with suppress(AudioError):
                picture = open_cover(cover)
        with reported(self.path):
            # Reports an unusable path now rather than after an hour of separation.
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
            if kind.bitrate is not None:
                self._stream.bit_rate = bitrate or kind.bitrate * channels
            self._add_picture(picture, kind.cover)
        except BaseException as error:
            self._discard(error)
            if not isinstance(error, av.FFmpegError | OSError | ValueError):
                raise
            reason = _REASONS.get(getattr(error, "errno", None) or 0)
            reason = reason or f"{name} cannot hold {channels} channels at {sample_rate} Hz; try wav or flac"
            raise AudioError(f"{self.path}: cannot be written: {reason}") from error

    def _add_picture(self, picture: Cover | None, how: str | None) -> None:
        if picture is not None and how == "comment":
            self._container.metadata["METADATA_BLOCK_PICTURE"] = _picture_comment(picture)
        elif picture is not None:
            codec = "png" if picture.format == "PNG" else "mjpeg"
            stream = cast(Any, self._container.add_mux_stream(codec, width=picture.width, height=picture.height))
            stream.disposition = Disposition.attached_pic
            self._container.start_encoding()
            packet = av.Packet(picture.data)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
            self._container.mux(packet)
        self._container.start_encoding()

    def __enter__(self) -> "AudioWriter":
        return self

    def write(self, block: np.ndarray) -> None:
        """Encodes float32 (channels, samples); values beyond ±1 are clipped by integer and most lossy formats.

        Raises AudioError for NaN or infinite samples, or if the file cannot be written.
        """
        with reported(self.path):
            self._encode(self._resampler.process(block))

    def _encode(self, block: np.ndarray) -> None:
        if block.shape[1] == 0:
            return
        if not np.isfinite(block).all():
            raise AudioError(
                f"{self.path}: cannot be written: samples are NaN or infinite; the weights of the model may be damaged"
            )
        # Interleaved, because PyAV supports at most eight planes.
        interleaved = np.ascontiguousarray(block.T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(interleaved, "flt", self.layout)
        frame.sample_rate, frame.time_base, frame.pts = self.rate, Fraction(1, self.rate), self._written
        self._written += block.shape[1]
        self._container.mux(self._stream.encode(frame))

    def _flush(self) -> None:
        self._encode(self._resampler.process(np.zeros((self._channels, 0), np.float32), last=True))
        self._container.mux(self._stream.encode(None))

    def _discard(self, error: BaseException) -> None:
        """Closes the container and removes the temporary file."""
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

    The arguments are those of :class:`AudioWriter`.
    """

    _formats = {"mp4": replace(FORMATS["m4a"], options={})}  # noqa: RUF012
    _size = (1280, 720)

    def _add_picture(self, picture: Cover | None, how: str | None) -> None:
        canvas = Image.new("RGB", self._size, (16, 16, 20))
        if picture is not None:
            image = picture.thumbnail(self._size)
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
