"""A stretch of a file as FFmpeg reads it."""

import io
import os
from typing import BinaryIO


class Section(io.RawIOBase):
    """The bytes ``start`` to ``end`` of a file as a file of their own; ``end`` None for the rest.

    Exceptions do not pass through FFmpeg: a read that fails is the end, and ``error`` is why. While it is in use the
    file must not be moved by others.
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
        """As of any file, but -1 for what is before the start."""
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
