"""Catalogues of songs separated on a Ray cluster: every track once, and a second run does only what is missing.

Paths and outputs are local paths, which all nodes must share, or URIs that ``pyarrow.fs`` knows (``s3://``, ``gs://``,
``hdfs://``, ``file://``). A worker separates into a temporary folder of its node, moves the finished stems to their
place, and only then writes the track's record; a worker that dies at any moment leaves nothing that looks finished.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import FrameTransformerError, OptionError
from .batch import AUDIO_SUFFIXES, FileResult, find_songs, separate_file
from .options import OutputOptions, SeparationOptions
from .separator import Separator

logger = logging.getLogger(__name__)

RECORDS = "manifest"
# Ray repeats a block whose worker died; more blocks than this burden its scheduler.
MAX_BLOCKS = 10_000


@dataclass(frozen=True)
class Track:
    """A song of a catalogue: its path or URI, and its name below the outputs, without suffix."""

    source: str
    name: str


def find_tracks(sources: Sequence[str]) -> list[Track]:
    """Songs of files, folders, patterns, playlists (local) and of files and folders given as URIs, each once.

    Songs of a folder keep their path below it as their name, so that ``a/01.mp3`` and ``b/01.mp3`` stay apart.

    Raises:
        OptionError: a source that names no audio file.
    """
    tracks: dict[str, Track] = {}
    for source in sources:
        if "://" in source:
            found = _find_remote(source)
        else:
            root = Path(source)
            found = [
                Track(str(path.absolute()), (path.relative_to(root) if root.is_dir() else Path(path.name)).as_posix())
                for path in find_songs([source])
            ]
        for track in found:
            name = str(PurePosixPath(track.name).with_suffix(""))
            tracks.setdefault(track.source, Track(track.source, name))
    return list(tracks.values())


def _find_remote(uri: str) -> list[Track]:
    from pyarrow import fs

    system, root = _filesystem(uri)
    if system.get_file_info(root).type == fs.FileType.File:
        return [Track(uri, PurePosixPath(root).name)]
    files = system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    names = sorted(
        file.path[len(root) :].lstrip("/")
        for file in files
        if file.is_file and PurePosixPath(file.path).suffix.lower() in AUDIO_SUFFIXES
    )
    if not names:
        raise OptionError(f"{uri}: no audio files there")
    return [Track(f"{uri.rstrip('/')}/{name}", name) for name in names]


def _filesystem(location: str) -> tuple[Any, str]:
    """The file system of a URI or local path, and the path in it."""
    from pyarrow import fs

    try:
        if "://" in location:
            return fs.FileSystem.from_uri(location)
        return fs.LocalFileSystem(), os.path.abspath(location)
    except (OSError, ValueError) as error:
        raise OptionError(f"{location}: not a location that can be opened: {error}") from error


@dataclass(frozen=True)
class _Job:
    track: Track
    outputs: dict[str, str]
    record: str


class _Worker:
    """One process of the cluster: the models load once, then it separates track after track."""

    def __init__(self, output: str, options: OutputOptions, separation: SeparationOptions, threads: int, attempts: int):
        import torch

        torch.set_num_threads(threads)
        self.system = _filesystem(output)[0]
        self.options = options
        self.attempts = attempts
        self.separator = Separator(separation)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job: _Job = row["job"]
        for attempt in range(1, self.attempts + 1):
            try:
                result = self._separate(job)
                break
            except FrameTransformerError as error:
                result = FileResult(job.track.source, error=str(error))
                break
            except Exception as error:  # one track's surprise must not end the run of the others
                message = f"{job.track.source}: {type(error).__name__}: {error}"
                result = FileResult(job.track.source, error=message.splitlines()[0])
                if attempt < self.attempts:
                    time.sleep(2**attempt)
        return {"source": job.track.source, "seconds": result.seconds, "elapsed": result.elapsed,
                "warnings": json.dumps(result.warnings), "error": result.error or ""}  # fmt: skip

    def _separate(self, job: _Job) -> FileResult:
        from pyarrow import fs

        with tempfile.TemporaryDirectory(prefix="frame-transformer-") as folder:
            song = Path(job.track.source)
            if "://" in job.track.source:
                song = Path(folder, PurePosixPath(job.track.source).name)
                system, path = _filesystem(job.track.source)
                fs.copy_files(path, str(song), source_filesystem=system, destination_filesystem=fs.LocalFileSystem())
            local = replace(self.options, folder=Path(folder, "stems"), filename="{stem}.{ext}")
            result = separate_file(self.separator, song, local)
            for stem, target in job.outputs.items():
                self._place(result.outputs[stem], target)
            record = Path(folder, "record.json")
            entry = {"source": job.track.source, "outputs": job.outputs, "seconds": result.seconds,
                     "elapsed": result.elapsed, "warnings": result.warnings}  # fmt: skip
            record.write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
            self._place(record, job.record)
        return result

    def _place(self, local: Path, target: str) -> None:
        """Copies a file of this node to the outputs, where it appears whole or not at all."""
        from pyarrow import fs

        self.system.create_dir(os.path.dirname(target), recursive=True)
        partial = f"{os.path.dirname(target)}/.{os.urandom(8).hex()}.part"
        try:
            fs.copy_files(
                str(local), partial, source_filesystem=fs.LocalFileSystem(), destination_filesystem=self.system
            )
            self.system.move(partial, target)
        except OSError:
            if self.system.get_file_info(partial).is_file:
                self.system.delete_file(partial)
            raise


def separate_on_cluster(
    tracks: Sequence[Track],
    output: str,
    options: OutputOptions,
    separation: SeparationOptions,
    *,
    address: str = "auto",
    workers: int | None = None,
    cpus_per_worker: int = 1,
    attempts: int = 3,
) -> Iterator[FileResult]:
    """Separates a catalogue on a Ray cluster; yields what became of each track as it is done.

    Args:
        tracks: see :func:`find_tracks`. output: folder or URI that takes the place of ``options.folder``.
        separation: of the separator that is made once in each worker; models by name or by a path that all nodes share.
        address: of the cluster; ``"auto"`` is the one that runs here, or else one that is started on this machine.
        workers: at most so many at once; as many as the cluster has room for when None. A worker takes a GPU where
            the cluster has any and the device is not the CPU, else ``cpus_per_worker`` cores and threads.
        attempts: how often a track is tried where the disk or the network fails. A worker that dies is replaced and
            its tracks are done by another, without limit.

    Raises:
        OptionError: Ray is not installed, no cluster at the address, or no room for a worker.
    """
    try:
        import ray
    except ImportError as error:
        raise OptionError("--cluster needs Ray: pip install 'frame-transformer[cluster]'") from error

    jobs, results = _plan(tracks, output, options, separation)
    yield from results
    if not jobs:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray tells of its start and of every plan on standard error; with --verbose it may.
    level = logging.INFO if logger.isEnabledFor(logging.INFO) else logging.ERROR
    joined = not ray.is_initialized()
    if joined:
        try:
            ray.init(
                address=None if address == "auto" else address, include_dashboard=False, log_to_driver=False,
                logging_level=level,
            )  # fmt: skip
        except Exception as error:  # Ray raises the bare class where a node does not start in time
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
        data = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=min(len(jobs), MAX_BLOCKS))
        done = data.map(
            _Worker,  # type: ignore[arg-type]
            fn_constructor_args=(output, options, separation, cpus_per_worker, attempts),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers or room, room, len(jobs))),
            num_cpus=None if gpu else cpus_per_worker,
            num_gpus=1 if gpu else None,
        )
        outputs = {job.track.source: job.outputs for job in jobs}
        for row in done.iter_rows():
            paths = {stem: Path(path) for stem, path in outputs[row["source"]].items()}
            yield FileResult(
                row["source"], {} if row["error"] else paths, row["seconds"], row["elapsed"],
                warnings=json.loads(row["warnings"]), error=row["error"] or None,
            )  # fmt: skip
    finally:
        if joined:
            ray.shutdown()


def _plan(
    tracks: Sequence[Track], output: str, options: OutputOptions, separation: SeparationOptions
) -> tuple[list[_Job], list[FileResult]]:
    """The tracks that are to be done, and results for those that are done already or cannot be."""
    from pyarrow import fs

    system, root = _filesystem(output)
    there = {
        info.path
        for info in system.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
        if info.is_file
    }
    # The same track with another model or format is another track.
    choices = json.dumps([vars(separation), vars(replace(options, folder=Path(), overwrite=False))], default=str)
    jobs, results, taken = [], [], dict[str, str]()
    for track in tracks:
        outputs = {
            name: f"{root.rstrip('/')}/{path.relative_to(options.folder).as_posix()}"
            for name, path in options.outputs(separation.model_name, track.name).items()
        }
        key = hashlib.sha256(f"{track.source}\n{choices}".encode()).hexdigest()
        record = f"{root.rstrip('/')}/{RECORDS}/{key[:2]}/{key}.json"
        first = outputs[options.stems[0]]
        if first in taken:
            message = f"{track.source}: its stems would overwrite those of {taken[first]}; rename one of them"
            results.append(FileResult(track.source, error=message))
        elif not options.overwrite and {record, *outputs.values()} <= there:
            paths = {stem: Path(path) for stem, path in outputs.items()}
            results.append(FileResult(track.source, paths, skipped=True))
        else:
            jobs.append(_Job(track, outputs, record))
        taken.setdefault(first, track.source)
    return jobs, results
