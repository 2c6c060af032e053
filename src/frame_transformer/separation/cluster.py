"""Separates catalogues of songs on a Ray cluster; a second run separates only what is missing.

Paths and outputs are local paths, which all nodes must share, or URIs that ``pyarrow.fs`` knows (``s3://``, ``gs://``,
``hdfs://``, ``file://``). A worker separates into a temporary folder of its node, moves the finished stems to their
place, and then writes the record of the track. So a worker that dies leaves nothing that looks finished.
"""

import functools
import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ..audio import audio_suffixes
from ..errors import FrameTransformerError, ModelError, OptionError
from ..files import temporary_folder
from .batch import FileResult, one_line, separate_file, unworked, write_record
from .options import OutputOptions, SeparationOptions
from .planning import PlannedSong, plan_songs
from .records import RECORDS, LocalFolder, OutputFolder, Record, parse_record
from .separator import Separator
from .songs import Song

logger = logging.getLogger(__name__)

# Ray repeats a block if its worker dies. More blocks than this would slow down its scheduler.
MAX_BLOCKS = 10_000


def find_remote_songs(uri: str) -> list[Song]:
    """Finds the songs at the URI of a file or folder, like :func:`find_songs` for paths.

    Raises:
        OptionError: the URI cannot be opened, or there is no audio file.
    """
    from pyarrow import fs

    system, root = _filesystem(uri)
    info = system.get_file_info(root)
    if info.type == fs.FileType.File:
        return [Song(uri, version=_version(info))]
    files = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    songs = []
    for file in sorted(files, key=lambda file: file.path):
        name = PurePosixPath(file.path[len(root) :].lstrip("/"))
        hidden = any(part.startswith(".") for part in name.parts)
        if file.is_file and name.suffix.lower() in audio_suffixes() and not hidden:
            folder = name.parent.as_posix().removeprefix(".")
            songs.append(Song(f"{uri.rstrip('/')}/{quote(str(name))}", folder, _version(file)))
    if not songs:
        raise OptionError(f"{uri}: no audio files there")
    return songs


def _version(info: Any) -> tuple[int, int] | None:
    return None if info.size is None or info.mtime_ns is None else (info.size, info.mtime_ns)


def _filesystem(location: str) -> tuple[Any, str]:
    """The file system of a URI or local path, and the path in it."""
    from pyarrow import fs

    try:
        if "://" in location:
            return fs.FileSystem.from_uri(location)
        return fs.LocalFileSystem(), os.path.abspath(location)
    except (OSError, ValueError) as error:
        raise OptionError(f"{location}: not a location that can be opened: {error}") from error


class _RemoteFolder:
    """An :class:`OutputFolder` on any file system of ``pyarrow.fs``, which is listed once."""

    def __init__(self, uri: str):
        self.uri = uri.rstrip("/")
        self.system, root = _filesystem(uri)
        self.root = root.rstrip("/")

    @functools.cached_property
    def _files(self) -> frozenset[str]:
        from pyarrow import fs

        found = self.system.get_file_info(fs.FileSelector(self.root, recursive=True, allow_not_found=True))
        return frozenset(info.path[len(self.root) + 1 :] for info in found if info.is_file)

    def record_names(self) -> list[str]:
        return [path.removeprefix(f"{RECORDS}/") for path in self._files if path.startswith(f"{RECORDS}/")]

    def read_record(self, name: str) -> Record | None:
        with self.system.open_input_stream(f"{self.root}/{RECORDS}/{name}") as file:
            return parse_record(file.read())

    def has(self, path: str) -> bool:
        return path in self._files

    def address(self, path: str) -> str:
        return f"{self.uri}/{path}"

    def put(self, file: Path, path: str) -> None:
        from pyarrow import fs

        target = f"{self.root}/{path}"
        self.system.create_dir(os.path.dirname(target), recursive=True)
        partial = f"{os.path.dirname(target)}/.{os.urandom(8).hex()}.part"
        try:
            fs.copy_files(
                str(file), partial, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self.system
            )
            self.system.move(partial, target)
        except OSError:
            if self.system.get_file_info(partial).is_file:
                self.system.delete_file(partial)
            raise

    def remove(self, path: str) -> None:
        if self.system.get_file_info(f"{self.root}/{path}").is_file:
            self.system.delete_file(f"{self.root}/{path}")


def _open_folder(location: str) -> OutputFolder:
    return _RemoteFolder(location) if "://" in location else LocalFolder(Path(location).absolute())


class _Worker:
    """A process of the cluster that loads the models once and separates songs."""

    def __init__(self, output: str, options: OutputOptions, separation: SeparationOptions, threads: int, attempts: int):
        import torch

        torch.set_num_threads(threads)
        self.folder = _open_folder(output)
        self.options = options
        self.attempts = attempts
        self.fault = ""
        try:
            self.separator = Separator(separation)
        except FrameTransformerError as error:  # Ray would restart the worker forever
            self.fault = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        planned: PlannedSong = row["planned"]
        source, trace = planned.song.source, ""
        if self.fault:
            return {"number": row["number"], "result": "", "traceback": "", "fault": self.fault}
        for attempt in range(1, self.attempts + 1):
            try:
                result = self._separate(planned)
                break
            except Exception as error:  # an unexpected error in one song must not stop the others
                result = FileResult(source, error=one_line(error, source))
                trace = "" if isinstance(error, FrameTransformerError) else traceback.format_exc()
                # Errors of disks and networks may be temporary.
                if not isinstance(error, OSError):
                    break
                if attempt < self.attempts:
                    time.sleep(2**attempt)
        # As JSON in ASCII, because Ray's tables support only UTF-8 names.
        outcome = json.dumps(vars(result), default=str)
        return {"number": row["number"], "result": outcome, "traceback": trace, "fault": ""}

    def _separate(self, planned: PlannedSong) -> FileResult:
        with temporary_folder() as folder:
            source = planned.song.source
            if isinstance(source, str):
                from pyarrow import fs

                song = folder / planned.song.file.name
                system, path = _filesystem(source)
                fs.copy_files(path, str(song), source_filesystem=system, destination_filesystem=fs.LocalFileSystem())
            else:
                song = Path(planned.record.source)
            local = replace(self.options, folder=folder / "stems", filename="{stem}.{ext}")
            result = separate_file(self.separator, song, local)
            for name, path in planned.record.outputs.items():
                self.folder.put(result.outputs[name], path)
            write_record(self.folder, planned, result)
        return result


def separate_on_cluster(
    songs: Sequence[Song],
    output: str,
    options: OutputOptions,
    separation: SeparationOptions,
    *,
    address: str = "auto",
    workers: int | None = None,
    cpus_per_worker: int = 1,
    attempts: int = 3,
) -> Iterator[FileResult]:
    """Separates a catalogue on a Ray cluster and yields the result of each track when it is done.

    Args:
        songs: see :func:`find_songs`. output: folder or URI that takes the place of ``options.folder``.
        separation: options of the separator in each worker, with models by name or by a path that all nodes share.
        address: address of the cluster; ``"auto"`` uses the one on this machine, or starts one.
        workers: maximum number of workers; None for as many as the cluster can run. A worker uses one GPU if the
            cluster has GPUs and the device is not the CPU, else ``cpus_per_worker`` cores and threads.
        attempts: attempts per track if the disk or the network fails. A worker that dies is replaced, without
            limit.

    Raises:
        OptionError: Ray is not installed, no cluster at the address, or no room for a worker. ModelError: the workers
            cannot load the models.
    """
    try:
        import ray
    except ImportError as error:
        raise OptionError("--cluster needs Ray: pip install 'frame-transformer[cluster]'") from error

    jobs = []
    for planned in plan_songs(songs, separation, options, _open_folder(output)):
        if planned.error is not None or planned.is_done:
            yield unworked(planned, Path(output))
        else:
            jobs.append(planned)
    if not jobs:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray logs its start and every plan to standard error; only --verbose shows that.
    level = logging.INFO if logger.isEnabledFor(logging.INFO) else logging.ERROR
    joined = not ray.is_initialized()
    if joined:
        try:
            ray.init(
                address=None if address == "auto" else address, include_dashboard=False, log_to_driver=False,
                logging_level=level,
            )  # fmt: skip
        except Exception as error:  # Ray raises a bare Exception if a node does not start in time
            place = "on this machine" if address == "auto" else f"at {address}"
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise OptionError(f"no Ray cluster {place}: {reason}") from error
    try:
        resources = ray.cluster_resources()
        gpu = resources.get("GPU", 0) >= 1 and not separation.device.startswith("cpu")
        room = int(resources["GPU"]) if gpu else int(resources.get("CPU", 0)) // cpus_per_worker
        if room < 1:
            raise OptionError(f"the cluster has no room for a worker of {cpus_per_worker} cores")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        for handler in logging.getLogger("ray.data").handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setLevel(level)
        rows = [{"number": number, "planned": job} for number, job in enumerate(jobs)]
        data = ray.data.from_items(rows, override_num_blocks=min(len(jobs), MAX_BLOCKS))
        done = data.map(
            _Worker,  # type: ignore[arg-type]
            fn_constructor_args=(output, options, separation, cpus_per_worker, attempts),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers or room, room, len(jobs))),
            num_cpus=None if gpu else cpus_per_worker,
            num_gpus=1 if gpu else None,
        )
        for row in done.iter_rows():
            if row["fault"]:
                raise ModelError(row["fault"])
            job, fields = jobs[row["number"]], json.loads(row["result"])
            if row["traceback"]:
                logger.info("%s failed\n%s", job.song.source, row["traceback"])
            paths = {} if fields["error"] else job.places(Path(output))
            yield FileResult(**fields | {"source": job.song.source, "outputs": paths})
    finally:
        if joined:
            ray.shutdown()
