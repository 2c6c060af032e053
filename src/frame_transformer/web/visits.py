"""What visitors brought and what was made of it: one folder for each visit, gone when the visit is."""

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ..audio import AudioInfo

# Names that some file system refuses would otherwise fail on download or inside a zip.
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
MAX_NAME_BYTES = 150


class Cancelled(Exception):
    """Raised inside a separation that nobody wants any more."""


@dataclass
class Song:
    """An uploaded song. ``folder`` holds it and, once it is separated, the files of ``stems`` and ``tracks``.

    Attributes:
        stems: what is downloaded, by stem.
        tracks: what the page plays and shows, by file name.
    """

    name: str
    folder: Path
    info: AudioInfo | None = None
    stems: dict[str, Path] = field(default_factory=dict)
    tracks: dict[str, Path] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def source(self) -> Path:
        return self.folder / self.name

    @property
    def output(self) -> Path:
        return self.folder / "output"

    def check(self) -> None:
        """Raises Cancelled where the song was cancelled or removed."""
        if self.cancelled.is_set():
            raise Cancelled

    def clear(self) -> None:
        """Removes all that was made of the song."""
        self.stems, self.tracks = {}, {}
        shutil.rmtree(self.output, ignore_errors=True)

    def without_paths(self, message: str) -> str:
        """A message with the server's folders taken out of it."""
        return message.replace(f"{self.folder}{os.sep}", "")


@dataclass
class Visit:
    """One open page: its songs by id, and when it was last heard of (seconds of the monotonic clock)."""

    folder: Path
    songs: dict[str, Song] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)


class Visits:
    """All open pages, below one temporary folder.

    Args:
        keep: seconds that an abandoned page's files are kept.
    """

    def __init__(self, keep: float):
        self.keep = keep
        self._root = tempfile.TemporaryDirectory(prefix="frame-transformer-web-", ignore_cleanup_errors=True)
        self.folder = Path(self._root.name)
        self._visits: dict[str, Visit] = {}

    def open(self) -> str:
        """Begins a visit and returns its id, which is a secret."""
        identity = secrets.token_urlsafe(16)
        folder = self.folder / identity
        folder.mkdir()
        self._visits[identity] = Visit(folder)
        return identity

    def get(self, identity: str) -> Visit:
        """The visit of an id, which counts as a sign of life. Raises KeyError."""
        visit = self._visits[identity]
        visit.seen = time.monotonic()
        return visit

    def leave(self, identity: str) -> None:
        """Ends a visit: what runs for it is cancelled, its files are removed."""
        visit = self._visits.pop(identity, None)
        if visit is not None:
            for song in list(visit.songs.values()):
                song.cancelled.set()
            shutil.rmtree(visit.folder, ignore_errors=True)

    def add(self, identity: str, name: str) -> tuple[str, Song]:
        """A new song of a visit under the name the visitor knows it by, as far as file systems allow it."""
        visit = self.get(identity)
        song_id = secrets.token_urlsafe(16)
        path = Path(FORBIDDEN.sub("_", re.split(r"[/\\]", name)[-1]).strip(". "))
        stem = path.stem.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "song"
        song = Song(f"{stem}{path.suffix[:10]}", visit.folder / song_id)
        song.folder.mkdir()
        visit.songs[song_id] = song
        return song_id, song

    def remove(self, identity: str, song_id: str) -> None:
        """Removes a song and its files; a separation of it ends at its next step."""
        song = self.get(identity).songs.pop(song_id)
        song.cancelled.set()
        shutil.rmtree(song.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Ends the visits that were abandoned."""
        now = time.monotonic()
        for identity, visit in list(self._visits.items()):
            if now - visit.seen > self.keep:
                self.leave(identity)

    def close(self) -> None:
        """Ends all visits and removes the temporary folder."""
        for identity in list(self._visits):
            self.leave(identity)
        self._root.cleanup()
