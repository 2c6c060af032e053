"""What visitors brought and what was made of it: a folder for each song, gone when the visit is."""

import asyncio
import contextlib
import re
import secrets
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from filelock import FileLock, Timeout

from ..audio import AudioInfo, probe
from ..errors import AudioError
from .jobs import Job
from .limits import Limits, RefusedError, Throttle

# Names that some file system refuses would otherwise fail inside a zip or on saving a download.
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
MAX_NAME_BYTES = 150
PREFIX = "frame-transformer-web-"
LOCK = "lock"
MAX_STREAMS = 32


def safe_name(name: str) -> str:
    """A file name that every system takes, as near as possible to the one that the visitor knows a song by."""
    path = PurePath(FORBIDDEN.sub("_", re.split(r"[/\\]", name)[-1]).strip(". "))
    stem = path.stem.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "song"
    return f"{stem}{path.suffix[:10]}"


@dataclass(eq=False)
class Song:
    """An uploaded song.

    Attributes:
        id: by which the page asks for it. name: as the visitor knows it; no file of the server is called so.
        folder: holds the upload and a folder for each separation.
        address: of the visitor, whose share of the room its ``bytes`` count to.
        streams: what the file's header says of its audio streams, by number. default: of the one played by default.
        job: the last separation.
    """

    id: str
    name: str
    folder: Path
    address: str
    bytes: int = 0
    streams: dict[int, AudioInfo] = field(default_factory=dict)
    default: AudioInfo = field(init=False)
    job: Job | None = None

    @property
    def source(self) -> Path:
        return self.folder / "upload"

    @property
    def title(self) -> str:
        return PurePath(self.name).stem

    def probe(self) -> None:
        """Finds the audio streams of the file. Raises AudioError where it has none that can be read."""
        try:
            self.default = probe(self.source)
        except AudioError as error:
            raise AudioError(str(error).replace(str(self.source), self.name)) from None
        self.streams = {self.default.stream: self.default}
        for number in range(min(self.default.streams, MAX_STREAMS)):
            with contextlib.suppress(AudioError):
                self.streams[number] = probe(self.source, number)


@dataclass
class Visit:
    """One open page: its songs by id, the secret of its cookie, and when it was last heard of (monotonic seconds)."""

    id: str
    address: str
    secret: str = field(default_factory=secrets.token_urlsafe)
    songs: dict[str, Song] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)

    @property
    def cookie(self) -> str:
        return f"visit-{self.id}"


class Visits:
    """All open pages, with their files below one temporary folder. To be used from the event loop's thread only.

    Args:
        keep: seconds that an abandoned page's files are kept.
        limits: how many there may be.
        room: bytes for the files of all visits; None for four fifths of what is free now.
    """

    def __init__(self, keep: float, limits: Limits, room: int | None):
        self.keep = keep
        self.limits = limits
        self._throttle = Throttle(limits.visits_per_minute)
        self._visits: dict[str, Visit] = {}
        _remove_abandoned(Path(tempfile.gettempdir()))
        self._root = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.folder = Path(self._root.name)
        self._lock = FileLock(self.folder / LOCK)
        self._lock.acquire()
        self._room = room if room is not None else shutil.disk_usage(self.folder).free * 4 // 5

    def open(self, address: str) -> Visit:
        """Begins a visit. Raises RefusedError where there are too many."""
        if wait := self._throttle.wait(address):
            raise RefusedError(429, "Too many pages were opened from your address: wait a moment.", wait)
        own = sum(visit.address == address for visit in self._visits.values())
        if len(self._visits) >= self.limits.visits or own >= self.limits.visits // 2:
            raise RefusedError(503, "Too many pages are open: close some, or come back later.")
        self._throttle.take(address)
        visit = Visit(secrets.token_urlsafe(12), address)
        self._visits[visit.id] = visit
        return visit

    def get(self, identity: str, cookies: dict[str, str]) -> Visit:
        """The visit of an id, which counts as a sign of life. Raises RefusedError where the cookie is not its own."""
        visit = self._visits.get(identity)
        if visit is None or not secrets.compare_digest(
            cookies.get(visit.cookie, "").encode(errors="replace"), visit.secret.encode()
        ):
            raise RefusedError(410, "This page has expired: reload it and add your songs again.")
        visit.seen = time.monotonic()
        return visit

    def add(self, visit: Visit, name: str) -> Song:
        """A new song of a visit."""
        identity = secrets.token_urlsafe(12)
        song = Song(identity, safe_name(name), self.folder / identity, visit.address)
        song.folder.mkdir()
        visit.songs[identity] = song
        return song

    def claim(self, song: Song, size: int) -> None:
        """Sets the bytes that a song's files take. Raises RefusedError where there is no room for them."""
        stored = [other for visit in self._visits.values() for other in visit.songs.values() if other is not song]
        everybody = size + sum(other.bytes for other in stored)
        own = size + sum(other.bytes for other in stored if other.address == song.address)
        if everybody > self._room or own > self._room // 2 or size - song.bytes > shutil.disk_usage(self.folder).free:
            raise RefusedError(507, f"{song.name}: the server has no room for it at the moment; remove other songs.")
        song.bytes = size

    async def remove(self, visit: Visit, song: Song) -> None:
        """Removes a song and its files; a separation of it ends at its next step."""
        visit.songs.pop(song.id, None)
        if song.job is not None:
            song.job.cancelled.set()
        await asyncio.to_thread(shutil.rmtree, song.folder, ignore_errors=True)

    async def leave(self, visit: Visit) -> None:
        """Ends a visit: what runs for it is cancelled, its files are removed."""
        self._visits.pop(visit.id, None)
        for song in list(visit.songs.values()):
            await self.remove(visit, song)

    async def sweep(self) -> None:
        """Ends the visits that were abandoned."""
        now = time.monotonic()
        for visit in list(self._visits.values()):
            if now - visit.seen > self.keep:
                await self.leave(visit)

    def close(self) -> None:
        """Removes all files."""
        self._lock.release()
        self._root.cleanup()


def _remove_abandoned(folder: Path) -> None:
    """Removes what servers that were killed left behind: nobody holds the lock of their folder any more."""
    for left in folder.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError, Timeout), FileLock(left, timeout=0):
            shutil.rmtree(left.parent, ignore_errors=True)
