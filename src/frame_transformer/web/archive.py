"""Zip archives that are sent while they are written."""

import contextlib
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 20


class _Pipe(io.RawIOBase):
    """A buffer between zipfile and the response; it cannot seek, so zipfile only appends."""

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
    """Yields the bytes of an uncompressed zip archive of (name, path) entries, without a temporary file.

    All files are opened before the first byte is sent, so that deleting them meanwhile does not truncate the archive.

    Raises:
        OSError: a file is missing; raised by this function, not by the iterator.
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
