"""Cover pictures: decoded once within bounds, so that a broken or huge one is known before it is written."""

import io
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from ..errors import AudioError

# What FFmpeg attaches; Pillow knows other formats too, of which one runs a program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384
MAX_BYTES = 16_000_000  # a block of a FLAC file holds no more than 2²⁴


@dataclass(frozen=True)
class Cover:
    """A picture that decodes: its bytes as ``format`` ``"JPEG"`` or ``"PNG"``, and its size in pixels."""

    data: bytes
    format: str
    width: int
    height: int

    @property
    def mime_type(self) -> str:
        return f"image/{self.format.lower()}"

    def thumbnail(self, size: tuple[int, int]) -> Image.Image:
        """The picture in RGB, made smaller where ``size`` (width, height) asks for it."""
        image = Image.open(io.BytesIO(self.data), formats=(self.format,))
        image.draft("RGB", size)  # a JPEG is then decoded at a fraction of its size
        image.thumbnail(size)
        return image.convert("RGB")


@lru_cache(maxsize=4)  # every stem of a song is written with the same one
def open_cover(data: bytes) -> Cover:
    """Decodes a picture; other formats than JPEG and PNG become JPEG.

    Raises:
        AudioError: it is no picture, broken, or too large.
    """
    if len(data) > MAX_BYTES:
        raise AudioError(f"the picture is too large: {len(data) / 1e6:.0f} MB")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = image.size
        if max(image.size) <= MAX_SIDE and width * height <= MAX_PIXELS:
            image.load()
            if image.format not in ("JPEG", "PNG"):
                buffer = io.BytesIO()
                image.convert("RGB").save(buffer, "JPEG", quality=95)
                return Cover(buffer.getvalue(), "JPEG", width, height)
            return Cover(data, image.format, width, height)
    except Exception as error:  # Pillow raises SyntaxError, struct.error, zlib.error, IndexError, … on broken pictures
        raise AudioError("the picture is broken or in an unknown format") from error
    raise AudioError(f"the picture is too large: {width} × {height} pixels")
