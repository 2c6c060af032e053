"""A zip archive that is sent while it is made."""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 20


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken; it cannot seek, so that zipfile looks at nothing but its end."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written


def stream_zip(entries: Sequence[tuple[str, Path]]) -> Iterator[bytes]:
    """The bytes of an uncompressed zip of files under new names; nothing is written to disk.

    All files are opened before the first byte, so that deleting them meanwhile does not cut the archive short.

    Raises:
        OSError: a file is not there; raised by this function, not by the iterator.
    """
    with contextlib.ExitStack() as stack:
        files = [(name, stack.enter_context(path.open("rb"))) for name, path in entries]
        return _pieces(files, stack.pop_all())


def _pieces(files: Sequence[tuple[str, BinaryIO]], opened: contextlib.ExitStack) -> Iterator[bytes]:
    pipe = _Pipe()
    with opened, zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as entry:
                while piece := file.read(PIECE):
                    entry.write(piece)
                    yield pipe.take()
    yield pipe.take()
