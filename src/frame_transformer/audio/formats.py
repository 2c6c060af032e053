"""Supported file suffixes, containers, codecs and bit depths."""

import io
import mimetypes
from dataclasses import dataclass, field
from functools import cache

import av

from ..errors import OptionError
from .channels import LAYOUTS

# FFmpeg recognises these by their content and lists no suffix for them.
_UNNAMED_SUFFIXES = {".alac", ".dff", ".dsf", ".m4r", ".mpc", ".weba"}


@cache
def audio_suffixes() -> frozenset[str]:
    """Suffixes (lower case, with dot) of files that may contain readable audio, including videos.

    These are the suffixes of FFmpeg's formats that have a default audio codec or are named after one.
    """
    pictures = mimetypes.MimeTypes(filenames=())
    found = set(_UNNAMED_SUFFIXES)
    for name in av.formats_available:
        kind = av.ContainerFormat(name)
        if kind.extensions and not kind.no_file and _holds_sound(kind):
            found.update(f".{suffix}" for suffix in kind.extensions)
    return frozenset(s for s in found if not (pictures.guess_type("a" + s, strict=False)[0] or "").startswith("image/"))


def _holds_sound(kind: av.ContainerFormat) -> bool:
    if kind.is_output:
        with av.open(io.BytesIO(), "w", format=kind.name) as container:
            return container.default_audio_codec != "none"
    try:
        return av.Codec(kind.name).type == "audio"
    except av.codec.codec.UnknownCodecError:
        return False


@dataclass(frozen=True)
class AudioFormat:
    """A container and its codecs by bit depth (None for codecs without bit depths).

    ``rates`` (Hz) and ``channels`` are the supported values, empty for all. Other rates are resampled to
    ``fallback_rate``. ``bitrate`` is the default of a lossy codec, in bits per second and channel. ``cover`` is how a
    picture is stored: as a ``stream``, as a ``comment``, or not at all.
    """

    container: str
    codecs: dict[str | None, str]
    rates: tuple[int, ...] = ()
    fallback_rate: int = 48_000
    channels: tuple[int, ...] = tuple(LAYOUTS)
    bitrate: int | None = None
    cover: str | None = None
    options: dict[str, str] = field(default_factory=dict)


_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (7350, *_MP3_RATES, 64000, 88200, 96000)
# FFmpeg's libopus wrapper permutes the channels of 5.0 and 6.1 audio.
_OPUS_CHANNELS = (1, 2, 3, 4, 6, 8)
# PyAV's FFmpeg has no good Vorbis encoder, so Ogg files contain Opus.
_OPUS = AudioFormat("ogg", {None: "libopus"}, (48000,), channels=_OPUS_CHANNELS, bitrate=80_000, cover="comment")

FORMATS = {
    # rf64, because a plain WAV header overflows at 4 GiB (1.5 hours of 7.1 at 24 bits).
    "wav": AudioFormat("wav", {"16": "pcm_s16le", "24": "pcm_s24le", "32f": "pcm_f32le"}, options={"rf64": "auto"}),
    "flac": AudioFormat("flac", {"16": "flac", "24": "flac"}, cover="stream"),
    "mp3": AudioFormat("mp3", {None: "libmp3lame"}, _MP3_RATES, channels=(1, 2), bitrate=160_000, cover="stream"),
    # FFmpeg's ipod container does not accept a cover through PyAV; it is mp4 with another brand.
    "m4a": AudioFormat("mp4", {None: "aac"}, _AAC_RATES, bitrate=128_000, cover="stream", options={"brand": "M4A "}),
    "ogg": _OPUS,
    "opus": _OPUS,
}


def find_codec(name: str, bit_depth: str | None, formats: dict[str, AudioFormat] = FORMATS) -> tuple[AudioFormat, str]:
    """Returns the format with this name and its codec for a bit depth (by default 16 if the format has bit depths).

    Raises:
        OptionError: unknown format or bit depth.
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


def kept_bit_depth(name: str, source_depth: str) -> str | None:
    """The bit depth of format ``name`` that best preserves a source of ``source_depth`` ("16", "24" or "32f").

    None for a format without bit depths.
    """
    depths = FORMATS[name].codecs
    if None in depths:
        return None
    return source_depth if source_depth in depths else "24"
