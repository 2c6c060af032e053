"""Writing audio files, each whole or not at all, through PyAV."""

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import numpy as np

from ..errors import AudioError, OptionError


@dataclass(frozen=True)
class AudioFormat:
    """A container with its codec by bit depth (None for codecs that have none) and the rates it is
    limited to, in Hz.
    """

    container: str
    codecs: dict[str | None, str]
    rates: tuple[int, ...] = ()
    fallback_rate: int = 48_000


FORMATS = {
    "wav": AudioFormat("wav", {"16": "pcm_s16le", "24": "pcm_s24le", "32f": "pcm_f32le"}),
    "flac": AudioFormat("flac", {"16": "flac", "24": "flac"}),
    "mp3": AudioFormat("mp3", {None: "libmp3lame"}, (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)),
    "m4a": AudioFormat("ipod", {None: "aac"}),
    # PyAV's FFmpeg has no good Vorbis encoder: Ogg files hold Opus, which every player of the last decade reads.
    "ogg": AudioFormat("ogg", {None: "libopus"}, (48000,)),
    "opus": AudioFormat("opus", {None: "libopus"}, (48000,)),
}
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class AudioWriter:
    """Encodes float32 (channels, samples) blocks to a file that appears when the writer closes without an error.

    Args:
        path: the file; its suffix names the format unless ``audio_format`` does.
        sample_rate: Hz. channels: 1 to 8.
        audio_format: a key of ``FORMATS``.
        bit_depth: ``"16"``, ``"24"`` or ``"32f"`` for wav, ``"16"`` or ``"24"`` for flac; 16 by default.
        bitrate: bits per second of a lossy codec; the codec's default when None.
        tags: metadata entries.

    Raises:
        OptionError: a format or bit depth that does not exist. AudioError: the file cannot be written.
    """

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
    ):
        self.path = Path(path)
        name = (audio_format or self.path.suffix.removeprefix(".")).lower()
        if name not in FORMATS:
            raise OptionError(f"unknown audio format {name!r}: use one of {', '.join(FORMATS)}")
        kind = FORMATS[name]
        if None in kind.codecs:
            if bit_depth is not None:
                raise OptionError(f"{name} has no bit depth: leave it out, or use wav or flac")
            codec = kind.codecs[None]
        else:
            depth = bit_depth or "16"
            if depth not in kind.codecs:
                raise OptionError(f"{name} has no bit depth {depth}: use {', '.join(str(d) for d in kind.codecs)}")
            codec = kind.codecs[depth]
        if channels not in LAYOUTS:
            raise AudioError(f"{self.path}: {channels} channels cannot be written: use 1 to 8")
        self.layout = LAYOUTS[channels]
        self.sample_rate = sample_rate
        rate = sample_rate if not kind.rates or sample_rate in kind.rates else kind.fallback_rate
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, self._temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".frame-transformer-")
            os.close(handle)
        except OSError as error:
            raise AudioError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            self._container = av.open(self._temporary, "w", format=kind.container)
            self._container.metadata.update(tags or {})
            self._stream = cast(Any, self._container.add_stream(codec, rate=rate, layout=self.layout))
            if codec == "flac" and bit_depth == "24":
                self._stream.codec_context.format = "s32"
                self._stream.codec_context.options = {"bits_per_raw_sample": "24"}
            if bitrate is not None:
                self._stream.bit_rate = bitrate
        except (av.FFmpegError, OSError, ValueError) as error:
            Path(self._temporary).unlink(missing_ok=True)
            raise AudioError(
                f"{self.path}: {name} cannot hold {channels} channels at {sample_rate} Hz: try wav or flac"
            ) from error

    def __enter__(self) -> "AudioWriter":
        return self

    def write(self, block: np.ndarray) -> None:
        """Encodes float32 (channels, samples); values beyond ±1 are clipped by integer and most lossy formats."""
        if block.shape[1] == 0:
            return
        # Interleaved: PyAV sees no more than eight planes of a planar frame.
        frame = av.AudioFrame.from_ndarray(block.astype(np.float32, copy=False).T.reshape(1, -1), "flt", self.layout)
        frame.sample_rate = self.sample_rate
        self._mux(frame)

    def _mux(self, frame: av.AudioFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            full = getattr(error, "errno", None) == errno.ENOSPC
            reason = "the disk is full" if full else str(error.strerror or error)
            raise AudioError(f"{self.path}: cannot be written: {reason}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._mux(None)
            try:
                self._container.close()
                if kind is None:
                    os.replace(self._temporary, self.path)
            except (av.FFmpegError, OSError) as failure:
                if kind is None:
                    raise AudioError(f"{self.path}: cannot be written: {failure.strerror}") from failure
        finally:
            Path(self._temporary).unlink(missing_ok=True)
