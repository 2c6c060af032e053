"""The server behind the page: uploads, the queue, downloads.

Gradio runs the queue of separations, reports their progress and lets programs in; files go through routes of our own,
because Gradio's answers name files by their path on the server.
"""

import asyncio
import base64
import contextlib
import secrets
import socket
import threading
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ..audio import FORMATS, probe
from ..checkpoints import list_models, load_model
from ..errors import FrameTransformerError, ModelError, OptionError
from ..models import MaskModel
from ..separation import OutputOptions, Separator, separate_file
from .tracks import write_samples
from .visits import Cancelled, Song, Visit, Visits

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"": "index.html", "page.js": "page.js", "page.css": "page.css", "player.js": "player.js"}
QUEUE = "/engine"
# All that the page needs of Gradio; its own pages, uploads and files stay closed.
QUEUE_PATHS = (f"{QUEUE}/gradio_api/queue/join", f"{QUEUE}/gradio_api/queue/data")
MAX_WAITING = 100
SWEEP_SECONDS = 15.0
MIXTURE = "mixture"
CONTENT_POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; form-action 'none'"


@dataclass(frozen=True)
class PageOptions:
    """What the page offers and allows.

    Attributes:
        models: names or files, the first is chosen at the start; None for all models known by name.
        device: as for :class:`Separator`.
        jobs: songs separated at once; they share the threads of the CPU.
        max_megabytes, max_minutes: largest file and longest song. max_songs: of one visit.
        keep_minutes: how long the files of an abandoned page are kept.
        password: asked for by the browser (with any user name) where it is not None.
    """

    models: tuple[str, ...] | None = None
    device: str = "auto"
    jobs: int = 1
    max_megabytes: int = 500
    max_minutes: int = 120
    max_songs: int = 50
    keep_minutes: float = 60.0
    password: str | None = None


def _formats() -> list[str]:
    """Formats with their bit depths, the first of each format being what it has without asking."""
    return [
        name if depth is None or place == 0 else f"{name} {depth}"
        for name, kind in FORMATS.items()
        for place, depth in enumerate(kind.codecs)
    ]


class _Guard:
    """Answers what asks for a closed path of the queue with 404, and what comes without the password with 401."""

    def __init__(self, app: ASGIApp, password: str | None):
        self.app = app
        self.password = password

    def _refusal(self, scope: Scope) -> Response | None:
        if self.password is not None:
            kind, _, value = Headers(scope=scope).get("authorization", "").partition(" ")
            try:
                given = base64.b64decode(value).partition(b":")[2] if kind.lower() == "basic" else b""
            except ValueError:
                given = b""
            if not secrets.compare_digest(given, self.password.encode()):
                realm = {"WWW-Authenticate": 'Basic realm="Frame Transformer: any name and the password"'}
                return Response("This page needs a password.", 401, realm)
        if scope["path"].startswith(QUEUE) and scope["path"] not in QUEUE_PATHS:
            return Response("Not found", 404)
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)


class _Separations:
    """Runs the separations and keeps the models of the last one loaded."""

    def __init__(self, visits: Visits, options: PageOptions):
        self.visits = visits
        self.options = options
        known = tuple(info.name for info in list_models())
        chosen = options.models or known
        for model in chosen:
            if model not in known and not Path(model).is_file():
                raise ModelError(f"unknown model {model!r}: it is neither a file nor one of {', '.join(known)}")
        self.models = {Path(model).stem: model for model in chosen}
        if len(self.models) < len(chosen):
            raise OptionError("two of the models have the same name: rename one of the files")
        self._threads = max(1, torch.get_num_threads() // options.jobs)
        self._loading = threading.Lock()
        self._loaded: dict[str, MaskModel] = {}

    def _load(self, names: Sequence[str], song: Song, progress: gr.Progress) -> list[MaskModel]:
        def report(done: int, total: int) -> None:
            song.check()
            progress((done, total), desc="downloading the model")

        progress(None, desc="loading the model")
        with self._loading:
            # What is not wanted now frees its memory before the next one takes some.
            self._loaded = {name: network for name, network in self._loaded.items() if name in names}
            for name in names:
                song.check()
                if name not in self._loaded:
                    self._loaded[name] = load_model(self.models[name], report)
            return [self._loaded[name] for name in names]

    def run(
        self,
        song: Song,
        models: list[str],
        options: dict[str, Any],
        stems: list[str],
        audio_format: str,
        progress: gr.Progress,
    ) -> dict[str, Any]:
        """Separates a song and prepares what the page plays; ``options`` are those of :class:`Separator`.

        Raises FrameTransformerError and Cancelled.
        """
        unknown = [name for name in models if name not in self.models]
        if unknown or not models:
            raise OptionError(f"unknown model {unknown[0]!r}" if unknown else "choose at least one model")
        if audio_format not in _formats():
            raise OptionError(f"unknown audio format {audio_format!r}: use one of {', '.join(_formats())}")
        kind, _, depth = audio_format.partition(" ")
        output = OutputOptions(
            song.output, "{stem}.{ext}", tuple(stems), audio_format=kind, bit_depth=depth or None, images=True
        )
        song.clear()
        torch.set_num_threads(self._threads)  # of this thread
        separator = Separator(self._load(models, song, progress), device=self.options.device, **options)

        def report(done: int, total: int) -> None:
            song.check()
            assert song.info is not None
            self.check_length(song, total / song.info.sample_rate)
            if done:
                progress((done, total), desc="separating")
            else:
                progress(None, desc="reading the song")

        result = separate_file(separator, song.source, output, report)
        progress(None, desc="preparing the player")
        written = {stem: result.outputs[stem] for stem in stems}
        tracks: dict[str, Path] = {}
        samples: dict[str, int] = {}
        for name, path in {MIXTURE: song.source, **written}.items():
            tracks[f"{name}.pcm"] = song.output / f"{name}.pcm"
            tracks[f"{name}.png"] = result.outputs[f"{name}.png"]
            samples[name] = write_samples(path, tracks[f"{name}.pcm"], song.check)
        song.stems, song.tracks = written, tracks
        assert song.info is not None
        return {
            "tracks": [{"name": name, "samples": count} for name, count in samples.items()],
            "rate": song.info.sample_rate,
            "warnings": [song.without_paths(text) for text in result.warnings],
            "seconds": result.seconds,
            "elapsed": result.elapsed,
        }

    def check_length(self, song: Song, seconds: float) -> None:
        """Raises OptionError for a song longer than the page takes."""
        if seconds > 60 * self.options.max_minutes:
            raise OptionError(
                f"{song.name}: {seconds / 60:.0f} minutes are more than this page takes"
                f" ({self.options.max_minutes} minutes); the command separates songs of any length"
            )


def create_app(options: PageOptions = PageOptions()) -> FastAPI:
    """The page as an ASGI application. Its temporary files are removed when it shuts down.

    Raises:
        ModelError: a model that does not exist. OptionError: two models of the same name.
    """
    visits = Visits(60 * options.keep_minutes)
    separations = _Separations(visits, options)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(min(SWEEP_SECONDS, visits.keep))
                await run_in_threadpool(visits.sweep)

        sweeper = asyncio.create_task(sweep())
        yield
        sweeper.cancel()
        visits.close()

    app = FastAPI(title="Frame Transformer", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.visits = visits

    def find_visit(visit: str) -> Visit:
        try:
            return visits.get(visit)
        except KeyError:
            raise HTTPException(410, "This page has expired: reload it and add your songs again.") from None

    def find(visit: str, song: str) -> Song:
        try:
            return find_visit(visit).songs[song]
        except KeyError:
            raise HTTPException(410, "This song is no longer here: add it again.") from None

    def separate(
        visit: str,
        song: str,
        models: list[str],
        ensemble: str,
        stems: list[str],
        audio_format: str,
        overlap: float,
        tta: bool,
        smoothing: float,
        weights: list[float] | None,
    ) -> dict:
        """Separates an uploaded song; ``{"cancelled": true}`` where it was cancelled meanwhile."""
        chosen = {"ensemble": ensemble, "overlap": overlap, "tta": tta, "smoothing": smoothing, "weights": weights}
        try:
            found = find(visit, song)
        except HTTPException as error:
            raise gr.Error(error.detail, print_exception=False) from None
        try:
            found.check()
            return separations.run(found, models, chosen, stems, audio_format, gr.Progress())
        except Cancelled:
            reason = None
        except (FrameTransformerError, OSError) as error:
            reason = found.without_paths(
                str(error) if isinstance(error, FrameTransformerError) else f"{found.name}: {error.strerror}"
            )
        found.clear()
        if found.cancelled.is_set():
            with contextlib.suppress(OSError):  # of a cancelled song the upload stays, of a removed one nothing does
                found.folder.rmdir()
            return {"cancelled": True}
        raise gr.Error(reason or "", print_exception=False)

    with gr.Blocks(mode="server", analytics_enabled=False) as engine:
        gr.api(separate, api_name="separate", concurrency_limit=options.jobs)
    engine.queue(max_size=MAX_WAITING)

    @app.get("/settings")
    def settings() -> dict[str, Any]:
        known = {info.name: info for info in list_models()}
        return {
            "models": [
                {
                    "name": name,
                    "description": known[name].description if name in known else "",
                    "here": name not in known or known[name].cached,
                }
                for name in separations.models
            ],
            "formats": _formats(),
            "max_megabytes": options.max_megabytes,
            "max_minutes": options.max_minutes,
            "max_songs": options.max_songs,
        }

    @app.post("/visits")
    def open_visit() -> dict[str, str]:
        return {"visit": visits.open()}

    @app.post("/visits/{visit}/alive")
    def alive(visit: str) -> Response:
        find_visit(visit)
        return Response(status_code=204)

    @app.post("/visits/{visit}/leave")
    def leave(visit: str) -> Response:
        visits.leave(visit)
        return Response(status_code=204)

    @app.post("/visits/{visit}/songs")
    async def upload(visit: str, name: str, request: Request) -> JSONResponse:
        limit = options.max_megabytes * 1_000_000
        too_large = HTTPException(
            413, f"{name} is larger than this page takes ({options.max_megabytes} MB); the command takes any size."
        )
        if int(request.headers.get("content-length", 0)) > limit:
            raise too_large
        if len(find_visit(visit).songs) >= options.max_songs:
            raise HTTPException(429, f"This page takes {options.max_songs} songs at a time: remove some first.")
        identity, song = visits.add(visit, name)
        try:
            size = 0
            with song.source.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > limit:
                        raise too_large
                    await run_in_threadpool(file.write, chunk)
            song.info = await run_in_threadpool(probe, song.source)
            separations.check_length(song, song.info.duration or 0)
        except BaseException as error:
            with contextlib.suppress(KeyError):
                visits.remove(visit, identity)
            if isinstance(error, FrameTransformerError):
                raise HTTPException(422, song.without_paths(str(error))) from None
            if isinstance(error, OSError):
                raise HTTPException(507, f"{name} cannot be stored on the server: {error.strerror}.") from None
            raise
        return JSONResponse({"song": identity, "name": song.name, "seconds": song.info.duration})

    @app.delete("/visits/{visit}/songs/{song}")
    def remove(visit: str, song: str) -> Response:
        find(visit, song)
        visits.remove(visit, song)
        return Response(status_code=204)

    @app.post("/visits/{visit}/songs/{song}/cancel")
    def cancel(visit: str, song: str) -> Response:
        find(visit, song).cancelled.set()
        return Response(status_code=204)

    @app.post("/visits/{visit}/songs/{song}/renew")
    def renew(visit: str, song: str) -> Response:
        find(visit, song).cancelled.clear()
        return Response(status_code=204)

    @app.get("/visits/{visit}/songs/{song}/tracks/{track}")
    def track_file(visit: str, song: str, track: str) -> FileResponse:
        found = find(visit, song)
        if track not in found.tracks:
            raise HTTPException(404)
        kind = "image/png" if track.endswith(".png") else "application/octet-stream"
        return FileResponse(found.tracks[track], media_type=kind, headers={"Cache-Control": "no-store"})

    @app.get("/visits/{visit}/songs/{song}/stems/{stem}")
    def stem_file(visit: str, song: str, stem: str) -> FileResponse:
        found = find(visit, song)
        if stem not in found.stems:
            raise HTTPException(404)
        path = found.stems[stem]
        return FileResponse(path, filename=f"{found.source.stem} ({stem}){path.suffix}")

    @app.get("/visits/{visit}/stems.zip")
    def zip_file(visit: str) -> FileResponse:
        found = find_visit(visit)
        separated = [song for song in list(found.songs.values()) if song.stems]
        if not separated:
            raise HTTPException(404)
        path = found.folder / f"{secrets.token_hex(8)}.zip"
        _write_zip(path, separated)
        name = separated[0].source.stem if len(separated) == 1 else "stems"
        return FileResponse(path, filename=f"{name}.zip", background=BackgroundTask(path.unlink, missing_ok=True))

    @app.exception_handler(HTTPException)
    async def explain(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": error.detail}, error.status_code)

    gr.mount_gradio_app(app, engine, QUEUE, ssr_mode=False, mcp_server=False)

    @app.get("/")
    @app.get("/{name}")
    def page(name: str = "") -> FileResponse:
        if name not in PAGE_FILES:
            raise HTTPException(404)
        headers = {"Content-Security-Policy": CONTENT_POLICY, "Cache-Control": "no-cache"}
        return FileResponse(PAGE / PAGE_FILES[name], headers=headers)

    app.add_middleware(_Guard, password=options.password)
    return app


def _write_zip(path: Path, songs: list[Song]) -> None:
    """All stems, a folder for each song; songs of the same name are numbered."""
    taken: dict[str, int] = {}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for song in songs:
            stem = song.source.stem
            taken[stem] = taken.get(stem, 0) + 1
            folder = stem if taken[stem] == 1 else f"{stem} ({taken[stem]})"
            for output in song.stems.values():
                archive.write(output, f"{folder}/{output.name}")


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"cannot listen on {host} port {port}: {reason}; choose another --port or --host") from error


def serve(options: PageOptions, host: str, port: int, opened: Callable[[str], None]) -> None:
    """Serves the page until it is interrupted; port 0 is any free one. ``opened`` is told the address.

    Raises:
        OptionError: the address is taken or not of this machine.
    """
    with _listen(host, port) as listening:
        app = create_app(options)
        port = listening.getsockname()[1]
        opened(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        uvicorn.Server(config).run(sockets=[listening])
