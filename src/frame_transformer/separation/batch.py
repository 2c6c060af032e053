"""Separating files to files: what to do, where the stems go, and that each appears whole or not at all."""

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import torch

from ..audio import AudioWriter, VideoWriter
from ..errors import AudioError, FrameTransformerError, OptionError
from .options import OutputOptions
from .pictures import SpectrogramPictures, save_picture
from .separator import Separator

logger = logging.getLogger(__name__)

PLAYLISTS = (".m3u", ".m3u8")
AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aac", "aif", "aiff", "alac", "ape", "avi", "flac", "flv", "m4a", "m4b", "mka", "mkv", "mov", "mp2", "mp3"),
        *("mp4", "mpg", "oga", "ogg", "opus", "wav", "webm", "wma", "wv"),
    )
)
Stems = dict[str, np.ndarray]


@dataclass
class FileResult:
    """What became of one path or URI: its ``outputs`` by name, ``seconds`` of audio, ``elapsed`` seconds of work."""

    source: Path | str
    outputs: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    elapsed: float = 0.0
    skipped: bool = False
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def find_songs(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files of a list of files, folders (recursive), glob patterns and m3u playlists, in order, each once.

    Raises:
        AudioError: a folder, pattern or playlist that names no audio file.
    """
    songs: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
            if not found:
                raise AudioError(f"{path}: the folder holds no audio files")
        elif path.suffix.lower() in PLAYLISTS and path.is_file():
            found = list(_playlist(path))
            if not found:
                raise AudioError(f"{path}: the playlist names no files")
        elif any(mark in str(source) for mark in "*?[") and not path.exists():
            anchor = Path(path.anchor or ".")
            found = sorted(p for p in anchor.glob(str(path.relative_to(path.anchor))) if p.is_file())
            if not found:
                raise AudioError(f"{source}: no file matches")
        else:
            found = [path]
        songs.update(dict.fromkeys(found))
    return list(songs)


def _playlist(path: Path) -> Iterator[Path]:
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield path.parent / entry


def separate_file(
    separator: Separator,
    source: Path,
    options: OutputOptions,
    progress: Callable[[int, int], None] | None = None,
) -> FileResult:
    """Separates one file to its stems.

    Raises:
        FrameTransformerError: the file cannot be read or a stem cannot be written; no partial output is left.
    """
    result = FileResult(source, options.outputs(separator.options.model_name, source.stem))
    if not options.overwrite and all(path.is_file() for path in result.outputs.values()):
        result.skipped = True
        return result
    started = time.monotonic()
    stream = separator.stream(source, progress=progress)
    pictures = SpectrogramPictures() if options.images else None
    samples = 0
    gain = 1.0
    with contextlib.ExitStack() as stack:
        # Opened before the work begins: what is wrong with a place or a name shows at once.
        writers: list[tuple[str, AudioWriter]] = [
            (
                stem,
                stack.enter_context(
                    AudioWriter(
                        result.outputs[stem],
                        stream.sample_rate,
                        stream.channels,
                        audio_format=options.audio_format,
                        bit_depth=options.bit_depth,
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
        if options.clip == "rescale" and options.bit_depth != "32f":
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
    if pictures is not None:
        for name, picture in pictures.finish().items():
            save_picture(picture, result.outputs[f"{name}.png"])
    result.warnings = list(stream.warnings)
    if gain < 1:
        result.warnings.append(f"{source}: stems turned down by {-20 * np.log10(gain):.1f} dB to avoid clipping")
    result.seconds = samples / stream.sample_rate
    result.elapsed = time.monotonic() - started
    logger.info("%s: %.1f s separated in %.1f s", source, result.seconds, result.elapsed)
    return result


@contextlib.contextmanager
def _temporary_file(folder: Path, source: Path) -> Iterator[IO[bytes]]:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:  # also from closing a file whose last bytes find no room
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


class _StoppedError(Exception):
    """Ends the songs in work when nobody waits for them any more."""


def separate_files(
    separator: Separator,
    sources: Sequence[Path],
    options: OutputOptions,
    progress: Callable[[Path, int, int], None] | None = None,
    jobs: int = 1,
) -> Iterator[FileResult]:
    """Separates files; one that fails yields a result with ``error`` and the others go on.

    Args:
        progress: called with (file, samples done, samples in all), from the thread that works on the file.
        jobs: files in work at once; results then come in the order in which they are ready. They are threads, not
            processes: the weights are in memory once, and decoding, the network and encoding leave Python's lock alone.
    """
    stop = threading.Event()
    targets: dict[Path, Path] = {}  # the first stem of every song, and whose it is

    def work(source: Path) -> FileResult:
        def report(done: int, total: int) -> None:
            if stop.is_set():
                raise _StoppedError
            if progress is not None:
                progress(source, done, total)

        try:
            owner = targets.setdefault(
                options.path(separator.options.model_name, source.stem, options.stems[0]), source
            )
            if owner != source:
                raise OptionError(f"{source}: its stems would overwrite those of {owner}; rename one of them")
            return separate_file(separator, source, options, report)
        except FrameTransformerError as error:
            return FileResult(source, error=str(error))

    if jobs == 1:
        yield from map(work, sources)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // jobs)
    with ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            for future in as_completed([pool.submit(work, source) for source in sources]):
                yield future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
