"""Finding songs to separate: files, folders, patterns, playlists and standard input."""

import glob
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from ..audio import audio_suffixes
from ..errors import AudioError, FrameTransformerError
from ..files import temporary_folder
from .records import recorded_stems

PLAYLISTS = (".m3u", ".m3u8")
HIDDEN, NO_AUDIO, BROKEN, EARLIER = "hidden", "not audio", "broken links", "stems of an earlier run"


@dataclass(frozen=True)
class Song:
    """A song to separate.

    Attributes:
        source: its path, or a URI.
        folder: its folder, relative to the folder, pattern or playlist in which it was found, separated by ``/``.
        version: size in bytes and modification time in ns; None if they cannot be read.
    """

    source: Path | str
    folder: str = ""
    version: tuple[int, int] | None = None

    @property
    def file(self) -> PurePath:
        """The path, or the path of the URI."""
        return PurePosixPath(unquote(urlsplit(self.source).path)) if isinstance(self.source, str) else self.source


@dataclass
class FoundSongs:
    """Songs in order without duplicates, with an error message for each source that is not a song.

    ``left_out`` counts the other files in folders by kind.
    """

    songs: list[Song] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def find_songs(sources: Iterable[str | Path], find_remote: Callable[[str], Iterable[Song]] | None = None) -> FoundSongs:
    """Finds the songs in files, folders (recursively), glob patterns and m3u playlists.

    In folders and patterns, hidden files, files without an audio or video suffix and stems of earlier runs are left
    out; a file that is named directly is always a song. A folder with several links to it is searched once.

    Args:
        find_remote: finds the songs of a URI; without it, URIs are not supported.
    """
    found = FoundSongs()
    songs: dict[str, Song] = {}
    for source in map(str, sources):
        try:
            for song in _find(source, find_remote, found):
                songs.setdefault(os.path.abspath(song.source) if isinstance(song.source, Path) else song.source, song)
        except FrameTransformerError as error:
            found.failures[source] = str(error)
        except OSError as error:
            found.failures[source] = f"{source}: cannot be read: {error.strerror or error}"
    found.songs = list(songs.values())
    return found


def version_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Size in bytes and modification time in ns of a file; None if they cannot be read."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _find(source: str, find_remote: Callable[[str], Iterable[Song]] | None, found: FoundSongs) -> Iterable[Song]:
    path = Path(source)
    if not source:
        raise AudioError("a name is empty: name a file or folder")
    if os.path.isdir(path):
        files = _audio_in(path, _walk(path, found), found)
        if not files:
            raise AudioError(f"{source}: the folder holds no audio files{_besides(found)}")
        return [_song(file, path) for file in files]
    if path.suffix.lower() in PLAYLISTS and os.path.isfile(path):
        entries = list(_playlist(path))
        if not entries:
            raise AudioError(f"{source}: the playlist names no files")
        return [_song(entry, path.parent) for entry in entries]
    if not os.path.lexists(path) and "://" in source:
        if find_remote is None:
            raise AudioError(f"{source}: URLs are not read; download the song, or pipe it in and name it -")
        return find_remote(source)
    if not os.path.lexists(path) and glob.has_magic(source):
        return _matching(source, found)
    return [_song(path)]


def _song(path: Path, top: Path | None = None) -> Song:
    folder = PurePath()
    if top is not None and path.parent.is_relative_to(top):
        folder = path.parent.relative_to(top)
    return Song(path, "" if not folder.parts or ".." in folder.parts else folder.as_posix(), version_of(path))


def _walk(top: Path, found: FoundSongs) -> Iterator[Path]:
    """The files below a folder that are not hidden; the targets of links come last."""
    waiting, links = [top], list[Path]()
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(folder))
        except OSError as error:
            found.failures[str(folder)] = f"{folder}: the folder cannot be read: {error.strerror}"
            continue
        for entry in entries:
            path = folder / entry.name
            if _is_hidden(entry):
                found.left_out[HIDDEN] += os.path.isfile(path) and path.suffix.lower() in audio_suffixes()
            elif os.path.isdir(path):  # false for a link to itself
                (links if entry.is_symlink() else waiting).append(path)
            elif os.path.isfile(path):
                yield path
            else:
                found.left_out[BROKEN] += path.suffix.lower() in audio_suffixes()


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    attributes = getattr(entry.stat(follow_symlinks=False), "st_file_attributes", 0)  # 0 but on Windows
    return entry.name.startswith(".") or bool(attributes & stat.FILE_ATTRIBUTE_HIDDEN)


def _audio_in(top: Path, files: Iterable[Path], found: FoundSongs, any_suffix: bool = False) -> list[Path]:
    """The files that are songs, sorted; ``top`` is the folder they were searched in."""
    stems: dict[Path, frozenset[Path]] = {}
    songs = []
    for file in files:
        if not any_suffix and file.suffix.lower() not in audio_suffixes():
            found.left_out[NO_AUDIO] += 1
            continue
        for folder in file.parents:
            if folder not in stems:
                stems[folder] = recorded_stems(folder)
            if file in stems[folder]:
                found.left_out[EARLIER] += 1
                break
            if folder == top:
                songs.append(file)
                break
    return sorted(songs)


def _matching(pattern: str, found: FoundSongs) -> list[Song]:
    parts = PurePath(pattern).parts
    count = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    top, rest = Path(*parts[:count]), PurePath(*parts[count:])
    try:
        # Unlike the module glob, this does not follow links with **, which may be circular.
        matches = sorted(top.glob(str(rest)))
    except ValueError as error:
        raise AudioError(f"{pattern}: no pattern that can be searched: {error}") from error
    if not any(part.startswith(".") for part in rest.parts):
        matches = [path for path in matches if not any(part.startswith(".") for part in path.relative_to(top).parts)]
    files = [file for path in matches for file in (_walk(path, found) if path.is_dir() else [path])]
    songs = _audio_in(top, files, found, any_suffix=not glob.has_magic(rest.suffix or "*"))
    if not songs:
        raise AudioError(f"{pattern}: no file matches{_besides(found)}")
    return [_song(song, top) for song in songs]


def _besides(found: FoundSongs) -> str:
    return f" but {EARLIER}; name the files to separate those" if found.left_out[EARLIER] else ""


def _playlist(path: Path) -> Iterator[Path]:
    # Old playlists contain file names in any code page; their bytes are kept, as for names from the system.
    for line in path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines():
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield path.parent / entry


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[Path]:
    """A song from a stream that cannot seek, such as standard input, as a temporary file called ``stdin``.

    Raises:
        AudioError: the stream is a terminal, or there is no room for temporary files.
    """
    if stream.isatty():
        raise AudioError("-: standard input is a terminal; pipe a song into it")
    with temporary_folder() as folder:
        path, content = folder / "stdin" / "stdin", hashlib.sha256()
        try:
            path.parent.mkdir()
            with path.open("wb") as file:
                while block := stream.read(1 << 20):
                    content.update(block)
                    file.write(block)
        except OSError as error:
            raise AudioError(f"-: standard input cannot be read: {error.strerror or error}") from error
        # The same content is the same song, whenever it comes.
        time = int.from_bytes(content.digest()[:6])
        os.utime(path, ns=(time, time))
        yield path
