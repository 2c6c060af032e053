"""A section of a file as a file object for FFmpeg."""

import io
import os
from typing import BinaryIO


class Section(io.RawIOBase):
    """The bytes from ``start`` to ``end`` (None for the end of the file) of a file, as a read-only file object.

    Exceptions cannot pass through FFmpeg, so a failed read returns no data and its reason is kept in ``error``. Nobody
    else may change the position of the file while the section is in use.
    """

    def __init__(self, file: BinaryIO, start: int = 0, end: int | None = None):
        self._file, self._start, self._position = file, start, 0
        self.size = (file.seek(0, os.SEEK_END) if end is None else end) - start
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position and returns it, or returns -1 if it is before the start."""
        target = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if target < 0:
            return -1
        self._position = target
        return target

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.size - self._position)
        try:
            self._file.seek(self._start + self._position)
            data = self._file.read(left if size < 0 else min(size, left))
        except OSError as error:
            self.error = error
            return b""
        self._position += len(data)
        return data
