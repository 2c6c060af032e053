"""Separating files and writing their stems."""

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import torch

from ..audio import AudioWriter, VideoWriter, kept_bit_depth, reported
from ..errors import AudioError, FrameTransformerError, ModelError, OptionError, explain
from ..files import remove_abandoned, temporary_folder
from .options import OutputOptions
from .pictures import SpectrogramPictures, save_picture
from .planning import PlannedSong, plan_songs
from .records import RECORDS, LocalFolder, OutputFolder
from .separator import Separator
from .songs import Song, version_of

logger = logging.getLogger(__name__)

# What to try if there is not enough memory.
ADVICE = "a smaller --window or --context, or fewer songs at once"
Stems = dict[str, np.ndarray]


@dataclass
class FileResult:
    """The result of one path or URI: ``outputs`` by name, ``seconds`` of audio, ``elapsed`` seconds of processing."""

    source: Path | str
    outputs: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    elapsed: float = 0.0
    skipped: bool = False
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def separate_file(
    separator: Separator,
    source: Path,
    options: OutputOptions,
    progress: Callable[[int, int], None] | None = None,
    outputs: dict[str, Path] | None = None,
) -> FileResult:
    """Separates one file, even if its stems exist already.

    Args:
        progress: see :meth:`Separator.separate`.
        outputs: the files to write, by name; None for those of ``options``.

    Raises:
        FrameTransformerError: the file cannot be read or a stem cannot be written; no partial output is left.
    """
    if outputs is None:
        paths = options.outputs(separator.options.model_name, source.stem)
        outputs = {name: options.folder / path for name, path in paths.items()}
    result = FileResult(source, outputs)
    version = version_of(source)
    started = time.monotonic()
    stream = separator.stream(source, progress=progress)
    bit_depth = options.bit_depth or kept_bit_depth(options.audio_format, stream.bit_depth)
    pictures = SpectrogramPictures() if options.images else None
    samples = 0
    gain = 1.0
    with contextlib.ExitStack() as stack:
        # Opened before the separation, so that errors in paths are found at once.
        writers: list[tuple[str, AudioWriter]] = [
            (
                stem,
                stack.enter_context(
                    AudioWriter(
                        result.outputs[stem],
                        stream.sample_rate,
                        stream.channels,
                        audio_format=options.audio_format,
                        bit_depth=bit_depth,
                        bitrate=options.bitrate,
                        tags=stream.tags,
                        cover=stream.cover,
                    )
                ),
            )
            for stem in options.stems
        ]
        if options.video:
            video = VideoWriter(
                result.outputs["video"], stream.sample_rate, stream.channels, tags=stream.tags, cover=stream.cover
            )
            writers.append(("instrumental", stack.enter_context(video)))
        stems = tuple(dict.fromkeys(stem for stem, _ in writers))

        def watched() -> Iterator[Stems]:
            for block in stream:
                if pictures is not None:
                    pictures.push(block)
                yield {stem: getattr(block, stem) for stem in stems}

        blocks: Iterable[Stems] = watched()
        if options.clip == "rescale" and bit_depth != "32f":
            # The gain is known only at the song's end: until then the stems wait on disk, not in memory, and not in a
            # folder for temporary files that may itself be memory.
            spool = stack.enter_context(_temporary_file(result.outputs[options.stems[0]].parent, source))
            gain = 1 / max(1.0, _spool(blocks, spool))
            blocks = _unspool(spool, stems)
        for block in blocks:
            samples += block[stems[0]].shape[1]
            for stem, writer in writers:
                audio = block[stem] * np.float32(gain)
                writer.write(audio.clip(-1, 1) if options.clip == "clamp" else audio)
        if version_of(source) != version:
            raise AudioError(f"{source}: was changed while it was separated; separate it again")
    if pictures is not None:
        for name, picture in pictures.finish().items():
            save_picture(picture, result.outputs[f"{name}.png"])
    result.warnings = list(stream.warnings)
    if (decibels := round(-20 * np.log10(gain), 1)) > 0:
        result.warnings.append(f"{source}: stems turned down by {decibels} dB to avoid clipping")
    result.seconds = samples / stream.sample_rate
    result.elapsed = time.monotonic() - started
    logger.info("%s: %.1f s separated in %.1f s", source, result.seconds, result.elapsed)
    return result


@contextlib.contextmanager
def _temporary_file(folder: Path, source: Path) -> Iterator[IO[bytes]]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:  # also raised when a file is closed on a full disk
        raise AudioError(
            f"{source}: no room for temporary files: {error.strerror or error}; --clip none needs none"
        ) from error


def _spool(blocks: Iterable[Stems], spool: IO[bytes]) -> float:
    """Writes the blocks to a temporary file and returns the largest absolute sample of all stems."""
    peak = 0.0
    for block in blocks:
        peak = max(peak, *(float(np.abs(audio).max()) for audio in block.values()))
        for audio in block.values():
            np.save(spool, audio)
    return peak


def _unspool(spool: IO[bytes], stems: Sequence[str]) -> Iterator[Stems]:
    end = spool.tell()
    spool.seek(0)
    while spool.tell() < end:
        yield {stem: np.load(spool) for stem in stems}


class _StoppedError(BaseException):
    """Stops songs in progress after an error of the caller or when results are no longer needed."""


def separate_files(
    separator: Separator,
    songs: Sequence[Song],
    options: OutputOptions,
    progress: Callable[[Path | str, int, int], None] | None = None,
    jobs: int = 1,
) -> Iterator[FileResult]:
    """Separates songs. A song that fails yields a result with ``error``, and the others are separated.

    Songs that were separated before with the same weights and options are skipped. If stems of different songs would
    have the same path, all except the first get another name.

    Args:
        songs: see :func:`find_songs`.
        progress: called with (file, samples done, total samples) from the thread that processes the file. An
            exception from it stops everything.
        jobs: files that are processed at the same time; results are then yielded as they are completed. Jobs are
            threads, so that the weights are in memory once. Decoding, the network and encoding release the GIL.
    """
    stop = threading.Event()
    folder = LocalFolder(options.folder)
    plan = plan_songs(songs, separator.options, options, folder)
    _remove_leftovers(options.folder, plan)

    def work(planned: PlannedSong) -> FileResult:
        source = planned.song.source

        def report(done: int, total: int) -> None:
            if stop.is_set():
                raise _StoppedError
            try:
                if progress is not None:
                    progress(source, done, total)
            except Exception as error:
                raise _StoppedError from error

        if planned.error is not None or planned.is_done:
            return unworked(planned, options.folder)
        try:
            result = separate_file(separator, Path(source), options, report, planned.places(options.folder))
            with reported(options.folder / RECORDS):
                write_record(folder, planned, result)
            return result
        except Exception as error:  # must not stop the other songs
            logger.info("%s failed", source, exc_info=not isinstance(error, FrameTransformerError))
            return FileResult(source, error=one_line(error, source))
        except _StoppedError as stopped:
            raise stopped.__cause__ or stopped from None

    if jobs == 1:
        yield from map(work, plan)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // jobs)
    with ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            for future in as_completed([pool.submit(work, planned) for planned in plan]):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def one_line(error: Exception, source: Path | str) -> str:
    """A one-line message about an error in a song."""
    if isinstance(error, ModelError | OptionError):
        return f"{source}: {error}"
    return str(error) if isinstance(error, FrameTransformerError) else explain(error, source, ADVICE)


def unworked(planned: PlannedSong, root: Path) -> FileResult:
    """The result of a song that is skipped or cannot be separated."""
    if planned.error is not None:
        return FileResult(planned.song.source, error=planned.error)
    return FileResult(planned.song.source, planned.places(root), skipped=True)


def write_record(folder: OutputFolder, planned: PlannedSong, result: FileResult) -> None:
    """Writes the record of a song and removes the records of overwritten stems.

    Raises:
        OSError: the record cannot be written.
    """
    for name in planned.replaced:
        folder.remove(f"{RECORDS}/{name}")
    record = replace(planned.record, seconds=result.seconds, elapsed=result.elapsed, warnings=tuple(result.warnings))
    with temporary_folder() as temporary:
        file = temporary / "record.json"
        file.write_text(record.to_json(), encoding="utf-8")
        folder.put(file, f"{RECORDS}/{planned.record_name}")


def _remove_leftovers(root: Path, plan: Iterable[PlannedSong]) -> None:
    """Removes unfinished files of killed runs from the output folder and from the folders that are written to."""
    remove_abandoned(root.absolute())
    paths = {PurePosixPath(path) for planned in plan for path in planned.record.outputs.values()}
    for name in {path.parts[0] for path in paths if len(path.parts) > 1}:
        for folder, _, _ in os.walk(root.absolute() / name):
            remove_abandoned(Path(folder))
