"""Separating files to files: what to do, where the stems go, and that each appears whole or not at all."""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import numpy as np

from ..audio import AudioWriter, find_codec
from ..errors import AudioError, FrameTransformerError, OptionError
from .separator import Separator

STEMS = ("vocals", "instrumental")
PLAYLISTS = (".m3u", ".m3u8")
AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("aac", "aif", "aiff", "alac", "ape", "avi", "flac", "flv", "m4a", "m4b", "mka", "mkv", "mov", "mp2", "mp3"),
        *("mp4", "mpg", "oga", "ogg", "opus", "wav", "webm", "wma", "wv"),
    )
)
# Most file systems end a name at 255 bytes; the stem's temporary name and suffix need some of them.
MAX_NAME_BYTES = 200
Clip = Literal["rescale", "clamp", "none"]
Stems = dict[str, np.ndarray]


@dataclass(frozen=True)
class OutputOptions:
    """Where stems go and how they are written.

    Attributes:
        folder: root of the outputs. filename: template below it with {model}, {track}, {stem}, {ext}.
        stems: which of vocals and instrumental. audio_format, bit_depth, bitrate: see :class:`AudioWriter`.
        clip: what happens to stems beyond full scale: ``"rescale"`` turns all stems of the song down together,
            ``"clamp"`` cuts the peaks, ``"none"`` leaves them to the format.
        overwrite: separate again what is already there.
    """

    folder: Path = Path("separated")
    filename: str = "{model}/{track}/{stem}.{ext}"
    stems: tuple[str, ...] = STEMS
    audio_format: str = "wav"
    bit_depth: str | None = None
    bitrate: int | None = None
    clip: Clip = "rescale"
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.stems or set(self.stems) - set(STEMS):
            raise OptionError(f"stems must be of {', '.join(STEMS)}, got {', '.join(self.stems) or 'none'}")
        find_codec(self.audio_format, self.bit_depth)
        if self.clip not in ("rescale", "clamp", "none"):
            raise OptionError(f"unknown clip mode {self.clip!r}: use rescale, clamp or none")
        if len(self.stems) > 1 and "{stem}" not in self.filename:
            raise OptionError("the file name template needs {stem}, or the stems would overwrite each other")
        try:
            self.path("model", "track", "stem")
        except (KeyError, IndexError, ValueError) as error:
            raise OptionError(
                f"file name template {self.filename!r}: use {{model}} {{track}} {{stem}} {{ext}}"
            ) from error

    def path(self, model: str, track: str, stem: str) -> Path:
        """The file of one stem. Raises OptionError where the template leaves the output folder."""
        track = track.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
        path = self.folder / self.filename.format(model=model, track=track, stem=stem, ext=self.audio_format)
        root = Path(os.path.abspath(self.folder))
        if not Path(os.path.abspath(path)).is_relative_to(root):
            raise OptionError(f"file name template {self.filename!r} leaves the output folder")
        return path


@dataclass
class FileResult:
    """What became of one input. ``seconds`` of audio, ``elapsed`` seconds of work."""

    source: Path
    outputs: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    elapsed: float = 0.0
    skipped: bool = False
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def find_songs(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files of a list of files, folders (recursive), glob patterns and m3u playlists, in order, each once.

    Raises:
        OptionError: a folder, pattern or playlist that names no audio file.
    """
    songs: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
            if not found:
                raise OptionError(f"{path}: the folder holds no audio files")
        elif path.suffix.lower() in PLAYLISTS and path.is_file():
            found = list(_playlist(path))
            if not found:
                raise OptionError(f"{path}: the playlist names no files")
        elif any(mark in str(source) for mark in "*?[") and not path.exists():
            anchor = Path(path.anchor or ".")
            found = sorted(p for p in anchor.glob(str(path.relative_to(path.anchor))) if p.is_file())
            if not found:
                raise OptionError(f"{source}: no file matches")
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
    model_name: str,
    progress: Callable[[int, int], None] | None = None,
) -> FileResult:
    """Separates one file to its stems.

    Raises:
        FrameTransformerError: the file cannot be read or a stem cannot be written; no partial output is left.
    """
    result = FileResult(source)
    result.outputs = {stem: options.path(model_name, source.stem, stem) for stem in options.stems}
    if not options.overwrite and all(path.is_file() for path in result.outputs.values()):
        result.skipped = True
        return result
    started = time.monotonic()
    stream = separator.stream(source, progress=progress)
    samples = 0
    gain = 1.0
    with contextlib.ExitStack() as stack:
        blocks: Iterable[Stems] = ({stem: getattr(block, stem) for stem in options.stems} for block in stream)
        if options.clip == "rescale" and options.bit_depth != "32f":
            # The gain is known only at the song's end: until then the stems wait on disk, not in memory.
            spool = stack.enter_context(tempfile.TemporaryFile(prefix="frame-transformer-"))
            gain = 1 / max(1.0, _spool(blocks, spool, source))
            blocks = _unspool(spool, options.stems)
        writers = {
            stem: stack.enter_context(
                AudioWriter(
                    path,
                    stream.sample_rate,
                    stream.channels,
                    audio_format=options.audio_format,
                    bit_depth=options.bit_depth,
                    bitrate=options.bitrate,
                    tags=stream.tags,
                )
            )
            for stem, path in result.outputs.items()
        }
        for block in blocks:
            samples += block[options.stems[0]].shape[1]
            for stem, writer in writers.items():
                audio = block[stem] * np.float32(gain)
                writer.write(audio.clip(-1, 1) if options.clip == "clamp" else audio)
    result.warnings = list(stream.warnings)
    if gain < 1:
        result.warnings.append(f"{source}: stems turned down by {-20 * np.log10(gain):.1f} dB to avoid clipping")
    result.seconds = samples / stream.sample_rate
    result.elapsed = time.monotonic() - started
    return result


def _spool(blocks: Iterable[Stems], spool: IO[bytes], source: Path) -> float:
    """Writes the blocks to a temporary file and returns the largest absolute sample of all stems."""
    peak = 0.0
    try:
        for block in blocks:
            peak = max(peak, *(float(np.abs(audio).max()) for audio in block.values()))
            for audio in block.values():
                np.save(spool, audio)
    except OSError as error:
        raise AudioError(f"{source}: no room for temporary files: {error.strerror}") from error
    return peak


def _unspool(spool: IO[bytes], stems: Sequence[str]) -> Iterator[Stems]:
    end = spool.tell()
    spool.seek(0)
    while spool.tell() < end:
        yield {stem: np.load(spool) for stem in stems}


def separate_files(
    separator: Separator,
    sources: Sequence[Path],
    options: OutputOptions,
    model_name: str,
    progress: Callable[[Path, int, int], None] | None = None,
) -> Iterator[FileResult]:
    """Separates file after file; a file that fails yields a result with ``error`` and the next one follows."""
    taken: dict[Path, Path] = {}
    for source in sources:
        try:
            target = options.path(model_name, source.stem, options.stems[0])
            if target in taken:
                raise OptionError(f"{source}: its stems would overwrite those of {taken[target]}; rename one of them")
            taken[target] = source

            def report(done: int, total: int, source: Path = source) -> None:
                if progress is not None:
                    progress(source, done, total)

            yield separate_file(separator, source, options, model_name, report)
        except FrameTransformerError as error:
            yield FileResult(source, error=str(error))
