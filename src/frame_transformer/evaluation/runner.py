"""Evaluates systems on songs in parallel, and only what was not evaluated before."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.catalogue import AudioFile, Song
from ..errors import FrameTransformerError, OptionError, explain
from ..separation import STEMS, SeparationOptions
from .bss_eval import BSSEval, FrameRatios
from .metrics import SAMPLE_RATE, bleedless_and_fullness, si_sdr, utterance_sdr
from .report import METRICS, Evaluation, Frames, Scores, SongScore, write_whole
from .songs import References, find_references, mixture_of, read_references
from .systems import FolderSystem, MixtureSystem, ModelSystem, OracleSystem, System, file_version, load_separator

logger = logging.getLogger(__name__)

SCORE_FORMAT = 2
BASELINES = ("mixture", "irm", "ibm")
# The spectrogram of the oracle masks where no model is evaluated: that of the models of this package.
N_FFT, HOP_LENGTH = 2048, 1024

Paths = Sequence[str | os.PathLike[str]]
Progress = Callable[[int, int, str], None]


def evaluate(
    songs: str | os.PathLike[str] | Paths,
    models: Sequence[str | os.PathLike[str] | Paths] = ("default",),
    *,
    estimates: Paths | Mapping[str, str | os.PathLike[str]] = (),
    baselines: Sequence[str] = BASELINES,
    metrics: Sequence[str] = tuple(METRICS),
    output: str | os.PathLike[str] = "evaluation",
    jobs: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluates models and stems of other tools on songs whose true stems are known.

    Scores below ``output`` are reused unless a file that they depend on has changed. Songs that cannot be read, or for
    which a system has no stems, are listed in ``errors`` of the result.

    Args:
        songs: folders in the layout of MUSDB18 or MUSDB18-HQ, folders with one folder a song, ``.stem.mp4`` files.
        models: names or paths; a sequence of them is an ensemble.
        estimates: folders of separated stems, by the name of the folder or the one given.
        baselines: of ``"mixture"``, ``"irm"`` and ``"ibm"`` (oracle masks on the spectrogram of the first model).
        metrics: keys of `METRICS`.
        output: folder of the scores; :meth:`Evaluation.write` puts the reports there too.
        jobs: number of processes; None for one per core, at most 4.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``, for the models.
        progress: called with (scores done, total scores, last one); a score is one song by one system.

    Raises:
        OptionError: contradictory options, or too many jobs for the memory. DataError: no songs, or the output
        cannot be written. ModelError: a model that cannot be loaded.
    """
    found = find_references([songs] if isinstance(songs, str | os.PathLike) else songs)
    chosen = check_metrics(metrics)
    systems = make_systems(models, estimates, baselines, device)
    root = Path(output)
    jobs = min(len(found), jobs or min(4, os.cpu_count() or 1))
    total = len(found) * len(systems)
    evaluation = Evaluation([system.name for system in systems], [song.name for song in found], chosen)
    tasks = []
    for song in found:
        known = {} if overwrite else {system.name: _read_score(root, song, system, chosen) for system in systems}
        done = [score for score in known.values() if score is not None]
        evaluation.scores += done
        if missing := [system for system in systems if known.get(system.name) is None]:
            tasks.append((song, missing))
    if progress is not None:
        progress(len(evaluation.scores), total, "")
    finished = len(evaluation.scores)
    for song, attempted, results in _run(tasks, chosen, root, jobs):
        finished += attempted
        evaluation.scores += [result for result in results if isinstance(result, SongScore)]
        evaluation.errors += [result for result in results if isinstance(result, str)]
        if progress is not None:
            progress(finished, total, song.name)
    return evaluation


def check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics to compute, in the order of `METRICS`.

    Raises:
        OptionError: an unknown metric, or none.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        wrong = f"unknown metric {unknown[0]!r}" if unknown else "no metric given"
        raise OptionError(f"{wrong}: use some of {', '.join(METRICS)}")
    return tuple(name for name in METRICS if name in metrics)


def make_systems(
    models: Sequence[str | os.PathLike[str] | Paths],
    estimates: Paths | Mapping[str, str | os.PathLike[str]],
    baselines: Sequence[str],
    device: str,
) -> list[System]:
    """The systems to evaluate, baselines first. Loads every model once, so that a wrong one is known at the start.

    Raises:
        OptionError: an unknown baseline, a folder that is missing, two systems of one name, no system. ModelError: a
        model that cannot be loaded.
    """
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise OptionError(f"unknown baseline {unknown[0]!r}: use some of {', '.join(BASELINES)}")
    members = [(model,) if isinstance(model, str | os.PathLike) else tuple(model) for model in models]
    ensembles = [ModelSystem(SeparationOptions(chosen, device)) for chosen in members]
    if not isinstance(estimates, Mapping):
        estimates = {Path(os.path.abspath(folder)).name: folder for folder in estimates}
    folders = [FolderSystem(name, Path(folder)) for name, folder in estimates.items()]
    for folder in folders:
        if not folder.folder.is_dir():
            raise OptionError(f"{folder.folder}: no such folder; give a folder of separated stems")
        if folder.name in ("", ".", "..") or "/" in folder.name or os.sep in folder.name:
            raise OptionError(f"{folder.name!r} names no row of a table: give estimates as NAME=FOLDER")
    n_fft, hop_length = N_FFT, HOP_LENGTH
    for ensemble in reversed(ensembles):
        signal = load_separator(ensemble.options).parts[0].signal
        n_fft, hop_length = signal.n_fft, signal.hop_length
    systems: list[System] = []
    if "mixture" in baselines:
        systems.append(MixtureSystem())
    systems += [OracleSystem(name, n_fft, hop_length) for name in ("irm", "ibm") if name in baselines]
    systems += [*folders, *ensembles]
    names = [system.name for system in systems]
    if not names:
        raise OptionError("nothing to evaluate: give a model, a folder of estimates or a baseline")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise OptionError(f"two systems are called {twice!r}: rename a model file, or give estimates as NAME=FOLDER")
    return systems


def score_stems(
    references: References, vocals: np.ndarray, instrumental: np.ndarray, metrics: Sequence[str], bss: BSSEval | None
) -> tuple[Scores, Frames]:
    """The metrics of both stems, by stem and metric, and the values of frames that they are the medians of."""
    scores: Scores = {stem: {} for stem in STEMS}
    frames: Frames = {stem: {} for stem in STEMS}
    if bss is not None:
        ratios: FrameRatios = bss(np.stack((vocals, instrumental)))
        for metric, values in zip(("cSDR", "ISR", "SIR", "SAR"), dataclasses.astuple(ratios), strict=True):
            if metric in metrics:
                for stem, row in zip(STEMS, values, strict=True):
                    # Infinite ratios count as undefined: that is what museval's reports make of them.
                    frames[stem][metric] = [finite_or_none(value) for value in row.tolist()]
                    defined = row[np.isfinite(row)]
                    scores[stem][metric] = float(np.median(defined)) if len(defined) else None
    for stem, estimate in zip(STEMS, (vocals, instrumental), strict=True):
        truth = getattr(references, stem)
        if "uSDR" in metrics:
            scores[stem]["uSDR"] = finite_or_none(utterance_sdr(truth, estimate))
        if "SI-SDR" in metrics:
            scores[stem]["SI-SDR"] = finite_or_none(si_sdr(truth, estimate))
        if "bleedless" in metrics or "fullness" in metrics:
            both = zip(("bleedless", "fullness"), bleedless_and_fullness(truth, estimate), strict=True)
            scores[stem] |= {name: finite_or_none(value) for name, value in both if name in metrics}
    return scores, frames


def finite_or_none(value: float) -> float | None:
    """None stands for what is not defined, as JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else None


def _run(
    tasks: list[tuple[Song, list[System]]], metrics: tuple[str, ...], root: Path, jobs: int
) -> Iterator[tuple[Song, int, list[SongScore | str]]]:
    """Songs, the number of their systems and their results, as they are ready."""
    if jobs == 1 or len(tasks) < 2:
        for song, systems in tasks:
            yield song, len(systems), _score_song(song, systems, metrics, root)
        return
    # A forked child would share the locks of this process's threads and could not use CUDA.
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (threads, logger.getEffectiveLevel()))
    try:
        running = {
            pool.submit(_score_song, song, systems, metrics, root): (song, len(systems)) for song, systems in tasks
        }
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield *running.pop(future), future.result()
    except BrokenProcessPool as error:
        raise OptionError(
            "a process ended before its time, most likely for lack of memory: use fewer jobs; what was scored is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(threads: int, level: int) -> None:
    torch.set_num_threads(threads)
    logging.basicConfig(level=level, format="%(name)s: %(message)s")


def _score_song(song: Song, systems: list[System], metrics: tuple[str, ...], root: Path) -> list[SongScore | str]:
    """The score of every system on the song, or one line saying why there is none; scores are kept below ``root``.

    Where the song itself cannot be used there is one line in all.
    """
    try:
        references = read_references(song)
    except Exception as error:
        return [_one_line(error, song.name)]
    needs_bss = any(METRICS[name].framewise for name in metrics)
    bss = BSSEval(np.stack((references.vocals, references.instrumental))) if needs_bss else None
    results: list[SongScore | str] = []
    for system in systems:
        started = time.monotonic()
        try:
            version = _version(song, system)
            stems = system.estimate(song, references)
            separated = time.monotonic()
            scores, frames = score_stems(references, stems.vocals, stems.instrumental, metrics, bss)
            score = SongScore(
                system=system.name,
                song=song.name,
                seconds=references.mixture.shape[1] / SAMPLE_RATE,
                separation_seconds=separated - started,
                stems=scores,
                frames=frames,
                warnings=stems.warnings,
                song_warnings=references.warnings,
            )
            _write_score(root, score, version)
            results.append(score)
        except Exception as error:
            results.append(_one_line(error, f"{song.name}, {system.name}"))
    return results


def _one_line(error: Exception, subject: str) -> str:
    if isinstance(error, FrameTransformerError):
        return f"{subject}: {error}"
    logger.info("%s failed", subject, exc_info=True)
    return explain(error, subject, "fewer songs at once (-j)")


def _version(song: Song, system: System) -> Any:
    mixture = mixture_of(song)
    files: list[AudioFile] = song.files + ([mixture] if mixture else [])
    return [SCORE_FORMAT, [file_version(file.path) for file in files], system.version(song)]


def _score_path(root: Path, song: str, system: str) -> Path:
    return root / "scores" / system / f"{song}.json"


def _write_score(root: Path, score: SongScore, version: Any) -> None:
    content = dataclasses.asdict(score) | {"version": version}
    write_whole(_score_path(root, score.song, score.system), json.dumps(content, allow_nan=False) + "\n")


def _read_score(root: Path, song: Song, system: System, metrics: tuple[str, ...]) -> SongScore | None:
    """The score of a former run, if it has the metrics and nothing that it depends on has changed since."""
    try:
        content = json.loads(_score_path(root, song.name, system.name).read_text())
        if content.pop("version") != _version(song, system):
            return None
        score = SongScore(**content)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if any(set(metrics) - set(scores) for scores in score.stems.values()):
        return None
    for stem in STEMS:
        score.stems[stem] = {name: score.stems[stem][name] for name in metrics}
        score.frames[stem] = {name: values for name, values in score.frames[stem].items() if name in metrics}
    return score
