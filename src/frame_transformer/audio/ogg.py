"""The links of a chained Ogg file: consecutive streams, each with its own headers (RFC 3533)."""

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_CAPTURE = b"OggS\0"
_HEAD = 27  # bytes before the table of segments
_BEGIN, _END = 2, 4  # flags of the first and the last page of a stream


class Link(NamedTuple):
    """The bytes from ``start`` to ``end`` of a file; ``complete`` if the last page has the end-of-stream flag."""

    start: int
    end: int
    complete: bool


def find_links(file: BinaryIO) -> list[Link]:
    """Finds the links: each starts with a first page of a stream after a page that is not a first one."""
    links: list[Link] = []
    start, flags = 0, _BEGIN
    for position, page_flags in _pages(file):
        if page_flags & _BEGIN and not flags & _BEGIN:
            links.append(Link(start, position, bool(flags & _END)))
            start = position
        flags = page_flags
    return [*links, Link(start, file.seek(0, os.SEEK_END), bool(flags & _END))]


def _pages(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Position and flags of every complete page; bytes between pages are skipped."""
    size = file.seek(0, os.SEEK_END)
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(_HEAD)
        end = size + 1
        if head.startswith(_CAPTURE) and len(head) == _HEAD:
            end = position + _HEAD + head[-1] + sum(file.read(head[-1]))
        if end <= size:
            yield position, head[5]
            position = end
        else:
            position = _find(file, position + 1, size)


def _find(file: BinaryIO, position: int, size: int) -> int:
    """The position where the next page seems to start; ``size`` if there is none."""
    while position < size:
        file.seek(position)
        chunk = file.read(1 << 16)
        if (found := chunk.find(_CAPTURE)) >= 0:
            return position + found
        position += max(1, len(chunk) - len(_CAPTURE) + 1)
    return size
