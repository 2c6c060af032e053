"""Cover pictures: checked and decoded before they are written, with limits on their size."""

import io
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from ..errors import AudioError

# The formats that FFmpeg attaches. Pillow reads others too, and one of them runs an external program.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
MAX_PIXELS = 40_000_000
MAX_SIDE = 16_384
MAX_BYTES = 16_000_000  # a metadata block of a FLAC file has at most 2²⁴


@dataclass(frozen=True)
class Cover:
    """A valid picture: its bytes, its ``format`` (``"JPEG"`` or ``"PNG"``) and its size in pixels."""

    data: bytes
    format: str
    width: int
    height: int

    @property
    def mime_type(self) -> str:
        return f"image/{self.format.lower()}"

    def thumbnail(self, size: tuple[int, int]) -> Image.Image:
        """The picture in RGB, reduced to fit into ``size`` (width, height)."""
        image = Image.open(io.BytesIO(self.data), formats=(self.format,))
        image.draft("RGB", size)  # decodes a JPEG at a fraction of its size
        image.thumbnail(size)
        return image.convert("RGB")


@lru_cache(maxsize=4)  # all stems of a song have the same cover
def open_cover(data: bytes) -> Cover:
    """Decodes a picture; formats other than JPEG and PNG are converted to JPEG.

    Raises:
        AudioError: the data is not a picture, broken, or too large.
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
