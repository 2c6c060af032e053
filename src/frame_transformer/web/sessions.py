"""Sessions of the page: the uploaded songs and their stems, deleted when the session ends."""

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

# Names that a file system refuses would fail in a zip archive or when a download is saved.
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
MAX_NAME_BYTES = 150
PREFIX = "frame-transformer-web-"
LOCK = "lock"
MAX_STREAMS = 32


def safe_name(name: str) -> str:
    """The name of a song, changed as little as possible to be a valid file name on every system."""
    path = PurePath(FORBIDDEN.sub("_", re.split(r"[/\\]", name)[-1]).strip(". "))
    stem = path.stem.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "song"
    return f"{stem}{path.suffix[:10]}"


@dataclass(eq=False)
class Song:
    """An uploaded song.

    Attributes:
        id: identifier in URLs. name: the visitor's file name; never used for files on the server.
        folder: contains the upload and a folder for each separation.
        address: network address of the visitor; ``bytes`` count towards its share of the disk space.
        streams: the audio streams of the file, by number. default: number of the default stream.
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
        """Finds the audio streams of the file. Raises AudioError if none can be read."""
        try:
            self.default = probe(self.source)
        except AudioError as error:
            raise AudioError(str(error).replace(str(self.source), self.name)) from None
        self.streams = {self.default.stream: self.default}
        for number in range(min(self.default.streams, MAX_STREAMS)):
            with contextlib.suppress(AudioError):
                self.streams[number] = probe(self.source, number)


@dataclass
class Session:
    """One open page: its songs by id, its cookie's secret, and the time of its last request (monotonic seconds)."""

    id: str
    address: str
    secret: str = field(default_factory=secrets.token_urlsafe)
    songs: dict[str, Song] = field(default_factory=dict)
    seen: float = field(default_factory=time.monotonic)

    @property
    def cookie(self) -> str:
        return f"session-{self.id}"


class Sessions:
    """All open sessions. Their files are in one temporary folder. Use it only from the event loop's thread.

    Args:
        keep: seconds after the last request until a session's files are deleted.
        limits: how many sessions are allowed.
        room: bytes for the files of all sessions; None for 80 % of the free space.
    """

    def __init__(self, keep: float, limits: Limits, room: int | None):
        self.keep = keep
        self.limits = limits
        self._throttle = Throttle(limits.sessions_per_minute)
        self._sessions: dict[str, Session] = {}
        _remove_abandoned(Path(tempfile.gettempdir()))
        self._root = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.folder = Path(self._root.name)
        self._lock = FileLock(self.folder / LOCK)
        self._lock.acquire()
        self._room = room if room is not None else shutil.disk_usage(self.folder).free * 4 // 5

    def open(self, address: str) -> Session:
        """Starts a session. Raises RefusedError if there are too many."""
        if wait := self._throttle.wait(address):
            raise RefusedError(429, "Too many pages were opened from your address: wait a moment.", wait)
        own = sum(session.address == address for session in self._sessions.values())
        if len(self._sessions) >= self.limits.sessions or own >= self.limits.sessions // 2:
            raise RefusedError(503, "Too many pages are open: close some, or come back later.")
        self._throttle.take(address)
        session = Session(secrets.token_urlsafe(12), address)
        self._sessions[session.id] = session
        return session

    def get(self, identity: str, cookies: dict[str, str]) -> Session:
        """The session with this id, marked as alive. Raises RefusedError if the cookie does not match."""
        session = self._sessions.get(identity)
        if session is None or not secrets.compare_digest(
            cookies.get(session.cookie, "").encode(errors="replace"), session.secret.encode()
        ):
            raise RefusedError(410, "This page has expired: reload it and add your songs again.")
        session.seen = time.monotonic()
        return session

    def add(self, session: Session, name: str) -> Song:
        """Adds a song to a session."""
        identity = secrets.token_urlsafe(12)
        song = Song(identity, safe_name(name), self.folder / identity, session.address)
        song.folder.mkdir()
        session.songs[identity] = song
        return song

    def claim(self, song: Song, size: int) -> None:
        """Reserves disk space for a song. Raises RefusedError if there is not enough."""
        stored = [other for session in self._sessions.values() for other in session.songs.values() if other is not song]
        everybody = size + sum(other.bytes for other in stored)
        own = size + sum(other.bytes for other in stored if other.address == song.address)
        if everybody > self._room or own > self._room // 2 or size - song.bytes > shutil.disk_usage(self.folder).free:
            raise RefusedError(507, f"{song.name}: the server has no room for it at the moment; remove other songs.")
        song.bytes = size

    async def remove(self, session: Session, song: Song) -> None:
        """Removes a song and its files, and cancels its separation."""
        session.songs.pop(song.id, None)
        if song.job is not None:
            song.job.cancelled.set()
        await asyncio.to_thread(shutil.rmtree, song.folder, ignore_errors=True)

    async def leave(self, session: Session) -> None:
        """Ends a session: cancels its separations and removes its files."""
        self._sessions.pop(session.id, None)
        for song in list(session.songs.values()):
            await self.remove(session, song)

    async def sweep(self) -> None:
        """Ends abandoned sessions."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if now - session.seen > self.keep:
                await self.leave(session)

    def close(self) -> None:
        """Removes all files."""
        self._lock.release()
        self._root.cleanup()


def _remove_abandoned(folder: Path) -> None:
    """Removes the files of servers that were killed: the locks of their folders are free."""
    for left in folder.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError, Timeout), FileLock(left, timeout=0):
            shutil.rmtree(left.parent, ignore_errors=True)
