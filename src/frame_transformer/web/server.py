"""The server of the page: uploads, queue and downloads. Other programs can use the same HTTP interface."""

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import uvicorn
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from sse_starlette import EventSourceResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from ..audio import AudioInfo
from ..errors import FrameTransformerError, OptionError
from .archive import stream_zip
from .connections import GRACE_SECONDS, protocol
from .guard import Guard, error_response
from .jobs import FAILED, Job, JobQueue
from .limits import Limits, RefusedError, Throttle, network
from .schemas import (
    Error,
    OpenedSession,
    Separation,
    SeparationRequest,
    Settings,
    Stream,
    UploadedSong,
    UploadQuery,
)
from .separations import Separations, formats, passes, stored_bytes
from .sessions import Session, Sessions, Song

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"": "index.html", "page.js": "page.js", "page.css": "page.css", "player.js": "player.js"}
SWEEP_SECONDS = 15.0
EVENT_SECONDS = 0.2
NOT_HERE = "This song is no longer here: add it again."
GONE = "This file is no longer here."


@dataclass(frozen=True)
class PageOptions:
    """Models and limits of the page.

    Attributes:
        models: names or files, the first is the default; None for all named models.
        device: as for :class:`Separator`.
        jobs: songs that are separated at the same time; they share the CPU threads.
        max_megabytes, max_minutes: largest file and longest song (stereo at 48 kHz). max_songs: songs of one session.
        max_gigabytes: space for all files of all sessions; None for 80 % of the free space.
        keep_minutes: how long the files of an abandoned page are kept.
        password: the browser asks for it, with any user name; None for no password.
        hosts: host names and addresses that the page answers to, in addition to those of the loopback device.
        limits: limits for one visitor and for all.
    """

    models: tuple[str, ...] | None = None
    device: str = "auto"
    jobs: int = 1
    max_megabytes: int = 500
    max_minutes: int = 120
    max_songs: int = 50
    max_gigabytes: float | None = None
    keep_minutes: float = 60.0
    password: str | None = None
    hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


class _Download(FileResponse):
    """A file that may be deleted at any time; the response is then 404."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message | None = None

        async def send_later(message: Message) -> None:
            # Starlette sends the status line before it opens the file.
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                await send(start)
                start = None
            await send(message)

        try:
            self.stat_result = os.stat(self.path)
            self.set_stat_headers(self.stat_result)
            await super().__call__(scope, receive, send_later)
        except OSError:
            await error_response(RefusedError(404, GONE))(scope, receive, send)


def create_app(options: PageOptions = PageOptions()) -> FastAPI:
    """Creates the page as an ASGI application. It removes its temporary files when it shuts down.

    Raises:
        ModelError: a model that does not exist. OptionError: two models of the same name.
    """
    separations = Separations(options.models, options.device, options.jobs, options.max_minutes)
    room = None if options.max_gigabytes is None else round(options.max_gigabytes * 1e9)
    sessions = Sessions(60 * options.keep_minutes, options.limits, room)
    queue = JobQueue(separations.run, options.jobs, options.limits)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(min(SWEEP_SECONDS, sessions.keep))
                await sessions.sweep()

        sweeper = asyncio.create_task(sweep())
        try:
            async with queue.working():
                yield
        finally:
            sweeper.cancel()
            sessions.close()

    app = FastAPI(
        title="Frame Transformer",
        description="Separates songs into vocals and instrumental.",
        docs_url=None,  # that page would load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
        responses={"4XX": {"model": Error}, 422: {"model": Error}},
    )
    app.state.sessions = sessions
    app.state.queue = queue
    app.add_middleware(
        Guard,
        hosts=options.hosts,
        password=options.password,
        guesses=Throttle(options.limits.guesses_per_minute),
    )
    _explain_errors(app)

    def find_session(session: str, request: Request) -> Session:
        return sessions.get(session, request.cookies)

    OwnSession = Annotated[Session, Depends(find_session)]

    def find_song(own: OwnSession, song: str) -> Song:
        if song not in own.songs:
            raise RefusedError(410, NOT_HERE)
        return own.songs[song]

    OwnSong = Annotated[Song, Depends(find_song)]

    def find_job(song: OwnSong) -> Job:
        if song.job is None:
            raise RefusedError(404, "This song has not been separated yet.")
        return song.job

    OwnJob = Annotated[Job, Depends(find_job)]

    @app.get("/settings")
    async def settings() -> Settings:
        """Models, formats and limits of the page."""
        return Settings(
            models=separations.offered(),
            formats=formats(),
            max_megabytes=options.max_megabytes,
            max_minutes=options.max_minutes,
            max_songs=options.max_songs,
        )

    @app.post("/sessions", status_code=HTTPStatus.CREATED)
    async def open_session(request: Request, response: Response) -> OpenedSession:
        """Starts a session and sets the cookie that its other requests need."""
        session = sessions.open(_address(request))
        response.set_cookie(
            session.cookie,
            session.secret,
            path=f"/sessions/{session.id}",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return OpenedSession(session=session.id)

    @app.post("/sessions/{session}/alive", status_code=HTTPStatus.NO_CONTENT)
    async def alive(own: OwnSession) -> None:
        """Keeps a session alive; a session without requests ends after a while."""

    @app.post("/sessions/{session}/leave", status_code=HTTPStatus.NO_CONTENT)
    async def leave(own: OwnSession, response: Response) -> None:
        """Ends a session and removes its songs."""
        response.delete_cookie(own.cookie, path=f"/sessions/{own.id}")
        await sessions.leave(own)

    @app.post(
        "/sessions/{session}/songs",
        status_code=HTTPStatus.CREATED,
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    async def upload(own: OwnSession, query: Annotated[UploadQuery, Query()], request: Request) -> UploadedSong:
        """Uploads a song; the body is the file."""
        limit = options.max_megabytes * 1_000_000
        too_large = RefusedError(
            413,
            f"{query.name} is larger than this page takes ({options.max_megabytes} MB); the command takes any size.",
        )
        announced = int(request.headers.get("content-length", 0))
        if announced > limit:
            raise too_large
        if len(own.songs) >= options.max_songs:
            raise RefusedError(429, f"This page takes {options.max_songs} songs at a time: remove some first.")
        song = sessions.add(own, query.name)
        try:
            sessions.claim(song, announced)
            await _receive(request, song, limit, too_large, lambda size: sessions.claim(song, size))
            await asyncio.to_thread(song.probe)
            info = song.default
            separations.check_size(song.name, info, info.duration or 0)
        except BaseException as error:
            await sessions.remove(own, song)
            if isinstance(error, OSError):
                raise RefusedError(507, f"{song.name} cannot be stored on the server: {error.strerror}.") from None
            raise
        return UploadedSong(
            song=song.id,
            name=song.name,
            seconds=info.duration,
            streams=[Stream(number=number, label=_label(song.streams[number])) for number in sorted(song.streams)],
            stream=info.stream,
        )

    @app.delete("/sessions/{session}/songs/{song}", status_code=HTTPStatus.NO_CONTENT)
    async def remove(own: OwnSession, found: OwnSong) -> None:
        """Removes a song and its stems."""
        if found.job is not None:
            queue.cancel(found.job)
        await sessions.remove(own, found)

    @app.post("/sessions/{session}/songs/{song}/separation", status_code=HTTPStatus.ACCEPTED)
    async def separate(own: OwnSession, found: OwnSong, request: SeparationRequest) -> Separation:
        """Adds a song to the queue and removes its earlier stems."""
        separations.check(request)
        info = found.default if request.stream is None else found.streams.get(request.stream)
        if info is None:
            raise OptionError(f"{found.name}: has no audio stream number {request.stream}")
        if found.job is not None and not found.job.over:
            raise RefusedError(409, f"{found.name} is already being separated: cancel that first.")
        seconds = info.duration or 0
        separations.check_size(found.name, info, seconds)
        job = Job(
            session=own.id,
            address=own.address,
            source=found.source,
            name=found.name,
            folder=found.folder / secrets.token_hex(4),
            request=request,
            info=info,
            work=seconds * passes(request),
        )
        held = found.bytes
        sessions.claim(found, found.source.stat().st_size + stored_bytes(request, info, seconds))
        try:
            queue.put(job)
        except RefusedError:
            found.bytes = held
            raise
        earlier, found.job = found.job, job
        if earlier is not None:
            await asyncio.to_thread(shutil.rmtree, earlier.folder, ignore_errors=True)
        return queue.status(job)

    @app.get("/sessions/{session}/songs/{song}/separation")
    async def status(job: OwnJob) -> Separation:
        """The state of a separation."""
        return queue.status(job)

    @app.delete("/sessions/{session}/songs/{song}/separation", status_code=HTTPStatus.NO_CONTENT)
    async def cancel(job: OwnJob) -> None:
        """Cancels a separation, which ends at its next step."""
        queue.cancel(job)

    @app.get(
        "/sessions/{session}/songs/{song}/separation/events",
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events: `Separation` each"}},
    )
    async def events(own: OwnSession, job: OwnJob) -> EventSourceResponse:
        """The state of a separation as server-sent events, one for each change until it ends."""

        async def changes() -> AsyncIterator[dict[str, str]]:
            last = None
            while last is None or last.state in ("waiting", "running"):
                own.seen = time.monotonic()
                current = queue.status(job)
                if current != last:
                    yield {"data": current.model_dump_json()}
                last = current
                await asyncio.sleep(EVENT_SECONDS)

        return EventSourceResponse(changes())

    @app.get("/sessions/{session}/songs/{song}/tracks/{track}", response_class=FileResponse)
    async def track_file(job: OwnJob, track: str) -> FileResponse:
        """Samples (``.pcm``) or spectrogram (``.png``) of a track of the player."""
        if track not in job.tracks:
            raise RefusedError(404, GONE)
        kind = "image/png" if track.endswith(".png") else "application/octet-stream"
        return _Download(job.tracks[track], media_type=kind, headers={"Cache-Control": "no-store"})

    @app.get("/sessions/{session}/songs/{song}/stems/{stem}", response_class=FileResponse)
    async def stem_file(found: OwnSong, job: OwnJob, stem: str) -> FileResponse:
        """Downloads a stem."""
        if stem not in job.stems:
            raise RefusedError(404, GONE)
        path = job.stems[stem]
        return _Download(path, filename=f"{found.title} ({stem}){path.suffix}")

    @app.get("/sessions/{session}/stems.zip", response_class=StreamingResponse)
    async def zip_file(own: OwnSession) -> StreamingResponse:
        """Downloads all stems of a session as a zip archive with a folder for each song; equal names are numbered."""
        separated = {song: song.job.stems for song in own.songs.values() if song.job is not None and song.job.stems}
        entries: list[tuple[str, Path]] = []
        taken: set[str] = set()
        for song, stems in separated.items():
            folder, number = song.title, 1
            while folder.lower() in taken:
                number += 1
                folder = f"{song.title} ({number})"
            taken.add(folder.lower())
            entries += [(f"{folder}/{path.name}", path) for path in stems.values()]
        try:
            if not entries:
                raise FileNotFoundError
            pieces = await asyncio.to_thread(stream_zip, entries)
        except OSError:
            raise RefusedError(404, GONE) from None
        name = next(iter(separated)).title if len(separated) == 1 else "stems"
        disposition = f"attachment; filename*=utf-8''{quote(name, safe='')}.zip"
        return StreamingResponse(pieces, media_type="application/zip", headers={"Content-Disposition": disposition})

    @app.get("/", include_in_schema=False)
    @app.get("/{name}", include_in_schema=False)
    async def page(name: str = "") -> FileResponse:
        if name not in PAGE_FILES:
            raise HTTPException(404)
        return FileResponse(PAGE / PAGE_FILES[name], headers={"Cache-Control": "no-cache"})

    return app


def _explain_errors(app: FastAPI) -> None:
    """Turns every error into a response ``{"error": "a sentence"}``."""

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return error_response(error)

    @app.exception_handler(FrameTransformerError)
    async def unusable(request: Request, error: FrameTransformerError) -> Response:
        return error_response(RefusedError(422, str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return error_response(RefusedError(422, f"{place}: {first['msg']}" if place else first["msg"]))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": HTTPStatus(error.status_code).phrase}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client has gone

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": FAILED}, 500)


def _address(request: Request) -> str:
    return network(request.client.host) if request.client else ""


async def _receive(
    request: Request, song: Song, limit: int, too_large: RefusedError, claim: Callable[[int], None]
) -> None:
    """Writes the body of a request to the song's file. Passes on the error of ``claim`` if the space is used up."""
    size = 0
    with song.source.open("wb") as file:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            if size > song.bytes:  # the request has no Content-Length
                claim(size + (1 << 20))
            await asyncio.to_thread(file.write, chunk)
    song.bytes = size


def _label(info: AudioInfo) -> str:
    kinds = {1: "mono", 2: "stereo"}
    kind = kinds.get(info.channels, f"{info.channels} channels")
    return ", ".join(filter(None, [info.tags.get("title"), info.codec, kind]))


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"cannot listen on {host} port {port}: {reason}; choose another --port or --host") from error


def serve(options: PageOptions, host: str, port: int, opened: Callable[[str], None], proxy: str | None = None) -> None:
    """Serves the page until it is interrupted.

    Args:
        options: models and limits. host: address to listen on. port: 0 for any free port.
        opened: called with the URL of the page once it listens.
        proxy: address of a reverse proxy whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` headers are trusted.

    Raises:
        OptionError: the address is in use or does not belong to this machine.
    """
    with _listen(host, port) as listening:
        app = create_app(replace(options, hosts=(*options.hosts, host)))
        port = listening.getsockname()[1]
        opened(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        config = uvicorn.Config(
            app,
            http=protocol(options.limits, proxy),
            ws="none",
            log_level="warning",
            server_header=False,
            proxy_headers=proxy is not None,
            forwarded_allow_ips=proxy,
            timeout_graceful_shutdown=round(5 * GRACE_SECONDS),
        )
        uvicorn.Server(config).run(sockets=[listening])
