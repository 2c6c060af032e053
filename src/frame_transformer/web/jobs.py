"""The queue of separations: bounded, fair between visitors, with the position and waiting time of each song."""

import asyncio
import contextlib
import heapq
import logging
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..audio import AudioInfo
from ..errors import FrameTransformerError
from .limits import Limits, RefusedError
from .schemas import Result, Separation, SeparationRequest

logger = logging.getLogger(__name__)
PACE_WEIGHT = 0.3  # weight of the newest song in the moving average that waiting times are estimated from
FAILED = "The separation failed; the server's log says why."


class Cancelled(Exception):
    """Raised inside a separation that was cancelled."""


@dataclass(eq=False)
class Job:
    """One separation of a song, from its place in the queue to its end.

    Attributes:
        session, address: of its visitor.
        source: the uploaded file. name: the visitor's name for it.
        folder: contains the results; removed if the separation fails.
        info: header information of the selected audio stream.
        work: seconds of audio × passes of the network.
        stems: files for download, by stem. tracks: files for the player, by file name.
    """

    session: str
    address: str
    source: Path
    name: str
    folder: Path
    request: SeparationRequest
    info: AudioInfo
    work: float
    turn: int = 0
    stems: dict[str, Path] = field(default_factory=dict)
    tracks: dict[str, Path] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)
    status: Separation = field(default_factory=lambda: Separation(state="waiting"))
    _stage_began: tuple[float, int] = (0.0, 0)

    @property
    def over(self) -> bool:
        return self.status.state in ("done", "failed", "cancelled")

    def check(self) -> None:
        """Raises Cancelled if the song was cancelled or removed."""
        if self.cancelled.is_set():
            raise Cancelled

    def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Reports progress. Raises Cancelled if the song was cancelled or removed."""
        self.check()
        now = time.monotonic()
        if stage != self.status.stage:
            self._stage_began = now, done
        began, first = self._stage_began
        left = None
        if now > began + 1 and done > first:
            left = round((total - done) * (now - began) / (done - first))
        share = done / total if total else None
        self.status = Separation(state="running", stage=stage, share=share, seconds_left=left)

    def hide_paths(self, text: str) -> str:
        """Replaces the server's path of the song by the visitor's name for it."""
        return text.replace(str(self.source), self.name).replace(f"{self.folder}{os.sep}", "")

    def describe(self, error: Exception) -> str:
        """The message shown to the visitor: without paths of the server or the text of an unexpected error."""
        match error:
            case FrameTransformerError():
                return self.hide_paths(str(error))
            case MemoryError():
                return f"{self.name}: the server does not have enough memory for it."
            case OSError(strerror=str(reason)):
                return f"{self.name}: {reason}"
        logger.error("separation failed", exc_info=error)
        return FAILED


class JobQueue:
    """Runs as many jobs at once as it has workers; the others wait.

    Visitors take turns, however many songs each has (start-time fair queueing, Goyal, Vin and Cheng 1996, with every
    song as one unit). Use it only from the event loop's thread.

    Args:
        run: performs a job in a worker thread; passes on Cancelled from :meth:`Job.check`.
        workers: number of jobs that run at the same time.
    """

    def __init__(self, run: Callable[[Job], Result], workers: int, limits: Limits):
        self._run = run
        self._workers = workers
        self._limits = limits
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._turn = 0
        self._pace: float | None = None  # seconds for one unit of work
        self._arrivals = asyncio.Semaphore(0)

    def put(self, job: Job) -> None:
        """Adds a job. Raises RefusedError if the queue, or the visitor's share of it, is full."""
        if len(self._waiting) >= self._limits.places:
            raise RefusedError(503, "The queue is full: try again in a few minutes.")
        of_address = [other for other in self._waiting if other.address == job.address]
        of_session = [other for other in self._waiting + self._running if other.session == job.session]
        if len(of_session) >= self._limits.session_places or len(of_address) >= self._limits.places // 2:
            raise RefusedError(429, "Too many of your songs are in the queue: wait until one of them is done.")
        job.turn = max([self._turn, *(other.turn + 1 for other in of_session)])
        self._waiting.append(job)
        self._waiting.sort(key=lambda other: other.turn)  # stable: first come, first served within a turn
        self._arrivals.release()

    def cancel(self, job: Job) -> None:
        """Cancels a job: at once if it is waiting, else at its next step."""
        job.cancelled.set()
        if job in self._waiting:
            self._waiting.remove(job)
            job.status = Separation(state="cancelled")

    def status(self, job: Job) -> Separation:
        """The state of the job."""
        if job not in self._waiting:
            return job.status
        before = self._waiting.index(job)
        return Separation(state="waiting", before=before, seconds_left=self._seconds_until(before))

    def _seconds_until(self, place: int) -> int | None:
        """Estimated seconds until the waiting job in this place starts; None before the first job has finished."""
        if self._pace is None:
            return None
        free = [0.0] * (self._workers - len(self._running))
        for job in self._running:
            left = job.status.seconds_left
            free.append(self._pace * job.work * (1 - (job.status.share or 0)) if left is None else left)
        heapq.heapify(free)
        for job in self._waiting[:place]:
            heapq.heapreplace(free, free[0] + self._pace * job.work)
        return round(free[0])

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Runs jobs while the context is open, and cancels the unfinished ones when it closes."""
        with ThreadPoolExecutor(self._workers, "separation") as pool:
            workers = [asyncio.create_task(self._work(pool)) for _ in range(self._workers)]
            try:
                yield
            finally:
                for worker in workers:
                    worker.cancel()
                for job in self._waiting + self._running:
                    job.cancelled.set()

    async def _work(self, pool: ThreadPoolExecutor) -> None:
        while True:
            await self._arrivals.acquire()
            if not self._waiting:  # the job was cancelled meanwhile
                continue
            job = self._waiting.pop(0)
            self._running.append(job)
            self._turn = max(self._turn, job.turn)
            began = time.monotonic()
            job.status = await asyncio.get_running_loop().run_in_executor(pool, self._finish, job)
            self._running.remove(job)
            if job.status.state == "done" and job.work:
                pace = (time.monotonic() - began) / job.work
                self._pace = pace if self._pace is None else self._pace + PACE_WEIGHT * (pace - self._pace)

    def _finish(self, job: Job) -> Separation:
        """Runs a job and removes its files unless it succeeds."""
        try:
            job.report("starting")
            result = self._run(job)
            job.check()
            return Separation(state="done", result=result)
        except Exception as error:
            job.stems, job.tracks = {}, {}
            shutil.rmtree(job.folder, ignore_errors=True)
            if job.cancelled.is_set():
                # Of a cancelled song the upload stays. Of a removed one nothing does, were it not for what was
                # written while it was being removed.
                with contextlib.suppress(OSError):
                    job.folder.parent.rmdir()
                return Separation(state="cancelled")
            return Separation(state="failed", error=job.describe(error))
