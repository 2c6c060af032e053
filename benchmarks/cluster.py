"""Throughput of a Ray cluster on this machine against one process: what Ray itself costs, and what workers bring."""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import torch

from frame_transformer.checkpoints import save_model
from frame_transformer.models import create_model
from frame_transformer.separation import (
    OutputOptions,
    SeparationOptions,
    Separator,
    find_songs,
    separate_files,
    separate_on_cluster,
)
from frame_transformer.separation.batch import FileResult

from .measuring import ChildFailedError, Result, in_child
from .songs import TINY, make_song


def one_process(model: str, catalogue: str, output: str) -> Result:
    """Every song of the catalogue, one after the other, with one thread."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    separator = Separator(model, device="cpu")
    return _rate(separate_files(separator, find_songs([catalogue]).songs, OutputOptions(Path(output))), started)


def cluster(model: str, catalogue: str, output: str, workers: int) -> Result:
    """The same by workers of one thread each, on a cluster of its own that is started with as many cores."""
    import ray

    started = time.perf_counter()
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False)
    separation = SeparationOptions((model,), device="cpu")
    results = separate_on_cluster(
        find_songs([catalogue]).songs, output, OutputOptions(Path(output)), separation, workers=workers
    )
    try:
        return _rate(results, started)
    finally:
        ray.shutdown()


def _rate(results: Iterable[FileResult], started: float) -> Result:
    """Seconds until the first track is done, and seconds of music a second from then on."""
    first, music = None, 0.0
    for result in results:
        if result.error:
            raise RuntimeError(result.error)
        if first is None:
            first = time.perf_counter()
        else:
            music += result.seconds
    assert first is not None
    return {"first_track_s": first - started, "music_s_per_s": music / (time.perf_counter() - first)}


def run(quick: bool, threads: int) -> list[Result]:
    """One process, then 1 … ``threads`` workers, on the same catalogue."""
    tracks, seconds = (4, 2.0) if quick else (16, 30.0)
    rows: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        model = "default"
        if quick:
            model = f"{folder}/tiny.safetensors"
            save_model(create_model(TINY), Path(model))
        catalogue = Path(folder, "catalogue")
        catalogue.mkdir()
        for number in range(tracks):
            make_song(catalogue / f"{number}.flac", seconds)
        for workers in range(threads + 1):
            where = {"model": model, "catalogue": str(catalogue), "output": f"{folder}/{workers}"}
            row: Result = {"what": f"Ray, workers: {workers}" if workers else "one process"}
            try:
                row |= (
                    in_child("benchmarks.cluster:cluster", workers=workers, **where)
                    if workers
                    else in_child("benchmarks.cluster:one_process", **where)
                )
                row["ratio"] = row["music_s_per_s"] / (rows[0] if rows else row)["music_s_per_s"]
            except ChildFailedError as error:
                row["failed"] = str(error)
            rows.append(row)
    return rows
