"""``frame-transformer separate``."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OptionError
from .common import Device, Verbose, echo_json, log, progress_bars, warn

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..separation import FileResult, SeparationOptions, Separator

EPILOG = (
    "Exit codes: 0 all separated, 1 a file failed, 2 wrong usage, 130 stopped by Ctrl-C, 143 by SIGTERM. Environment: "
    "FRAME_TRANSFORMER_DEVICE sets --device, FRAME_TRANSFORMER_CACHE the folder of downloaded models, NO_COLOR turns "
    "colours off."
)


def _model_names(incomplete: str) -> list[str]:
    from ..hub import CARDS

    return [name for name in CARDS if name.startswith(incomplete)]


def separate(
    songs: Annotated[
        list[str], typer.Argument(help="Files, folders, glob patterns, m3u playlists, or - for standard input.")
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "-n", "--model", autocompletion=_model_names, help="Model name or file; repeat the option for an ensemble."
        ),
    ] = ["default"],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Output folder; with --cluster also a URI.")
    ] = "separated",
    stems: Annotated[str, typer.Option(help="Stems to write, separated by commas.")] = "vocals,instrumental",
    audio_format: Annotated[str, typer.Option("--format", help="wav, flac, mp3, m4a, ogg or opus.")] = "wav",
    bit_depth: Annotated[str | None, typer.Option(help="Bit depth: 16, 24, 32f (wav); default: the song's.")] = None,
    bitrate: Annotated[str | None, typer.Option(help="Bitrate of a lossy format in kbit/s.")] = None,
    filename: Annotated[
        str, typer.Option(help="Path below the output folder, with {model}, {folder}, {track}, {stem} and {ext}.")
    ] = "{model}/{folder}/{track}/{stem}.{ext}",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="Precision of the network: float32, bfloat16 or float16.")] = "float32",
    window: Annotated[int | None, typer.Option(help="Frames in a window; default: the model's.")] = None,
    context: Annotated[int | None, typer.Option(help="Frames of context on each side; default: the model's.")] = None,
    overlap: Annotated[float, typer.Option(help="Fraction of a window that overlaps the next, 0 to 0.5.")] = 0.0625,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows in a batch.")] = 1,
    tta: Annotated[
        bool, typer.Option("--tta", help="Test-time augmentation: average four passes; four times as slow.")
    ] = False,
    smoothing: Annotated[
        float, typer.Option(help="Remove vocals that stay below this fraction of the song; 0 is off, try 0.05.")
    ] = 0.0,
    ensemble: Annotated[str, typer.Option(help="Combination of several models: mean, median, min or max.")] = "mean",
    weights: Annotated[str | None, typer.Option(help="Weights of the models in the mean, separated by commas.")] = None,
    clip: Annotated[str, typer.Option(help="Stems beyond full scale: rescale (all alike), clamp or none.")] = "rescale",
    images: Annotated[bool, typer.Option("--images", help="Also write spectrograms as PNG.")] = False,
    video: Annotated[bool, typer.Option("--video", help="Also write an MP4 video of cover and instrumental.")] = False,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files separated at the same time.")] = 1,
    stream: Annotated[
        int | None, typer.Option(min=0, help="Number of the audio stream, from 0; default: the file's default stream.")
    ] = None,
    fill_gaps: Annotated[
        bool, typer.Option("--fill-gaps/--close-gaps", help="Fill gaps in the sound with silence, or close them.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Separate again what was separated before.")] = False,
    cluster: Annotated[str | None, typer.Option(help="Separate on a Ray cluster: auto, or its address.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of workers on the cluster; default: as many as fit.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")] = False,
    verbose: Verbose = False,
) -> None:
    """Separate songs into vocals and instrumental."""
    from ..separation import (
        FileResult,
        OutputOptions,
        SeparationOptions,
        find_remote_songs,
        find_songs,
        separate_files,
        separate_on_cluster,
        spooled,
    )

    log(verbose)
    outputs = OutputOptions(
        Path(output),
        filename,
        tuple(stem.strip() for stem in stems.split(",") if stem.strip()),
        audio_format.lower(),
        bit_depth,
        _bits_per_second(bitrate),
        clip,  # type: ignore[arg-type]
        overwrite,
        images,
        video,
    )
    # A worker of a cluster need not have this folder as its own.
    models = [str(Path(item).absolute()) if Path(item).is_file() else item for item in model]
    options = SeparationOptions(
        tuple(models),
        device=device,
        dtype=dtype,
        window=window,
        context=context,
        overlap=overlap,
        batch_size=batch_size,
        tta=tta,
        smoothing=smoothing,
        ensemble=ensemble,  # type: ignore[arg-type]
        weights=_numbers(weights),
        stream=stream,
        fill_gaps=fill_gaps,
    )
    with contextlib.ExitStack() as stack:
        piped = stack.enter_context(spooled(sys.stdin.buffer)) if "-" in songs else Path("-")
        found = find_songs(
            [str(piped) if song == "-" else song for song in songs], find_remote_songs if cluster is not None else None
        )
        bars = stack.enter_context(progress_bars(as_json))
        display = _Display(bars, len(found.songs) + len(found.failures), str(piped), as_json)
        for source, error in found.failures.items():
            display.show(FileResult(source, error=error))
        outcome: Iterator[FileResult] = iter(())
        if found.songs and cluster is None:
            separator = _load(options, bars)
            outcome = separate_files(separator, found.songs, outputs, display.progress, jobs)
        elif found.songs and cluster is not None:
            # Ray prints to standard output, too.
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            outcome = separate_on_cluster(found.songs, output, outputs, options, address=cluster, workers=workers)
        for result in outcome:
            display.show(result)
    if display.summarise(found.left_out, again=cluster is not None):
        raise typer.Exit(1)


class _Display:
    """Progress bars, and a line or a JSON object for each finished file."""

    def __init__(self, bars: "Progress", count: int, piped: str, as_json: bool):
        self.bars, self.count, self.piped, self.as_json = bars, count, piped, as_json
        self.stdout = sys.stdout
        self.results: list[FileResult] = []
        self.started = time.monotonic()
        self.overall = bars.add_task("all files", total=count, visible=count > 1)
        self.tasks: dict[Path | str, TaskID] = {}
        self.shares: dict[Path | str, float] = {}

    def progress(self, source: Path | str, done: int, total: int) -> None:
        """Updates the bar of a file and that of all files."""
        if source not in self.tasks:
            self.tasks[source] = self.bars.add_task(Path(self._named(source)).name, total=total)
        self.bars.update(self.tasks[source], completed=done, total=total)
        self.shares[source] = done / max(total, 1)
        self._move()

    def show(self, result: "FileResult") -> None:
        """Prints the result of a file."""
        self.results.append(result)
        if result.source in self.tasks:
            self.bars.remove_task(self.tasks[result.source])
        self.shares.pop(result.source, None)
        self._move()
        result.source = self._named(result.source)
        result.error = result.error and self._named(result.error)
        result.warnings = list(map(self._named, result.warnings))
        if self.as_json:
            echo_json(dataclasses.asdict(result), self.stdout)
        else:
            self._print(result)

    def summarise(self, left_out: Mapping[str, int], again: bool) -> bool:
        """Prints speed, failures and the number of files left out; returns whether any file failed."""
        failures = [result for result in self.results if result.error is not None]
        if self.as_json:
            return bool(failures)
        seconds, elapsed = sum(result.seconds for result in self.results), time.monotonic() - self.started
        if self.count > 1 and seconds:
            warn(f"{self.count} files: {_speed(seconds, elapsed)}")
        if counts := ", ".join(f"{count} {kind}" for kind, count in left_out.items() if count):
            warn(f"left out: {counts}")
        if self.count > 1 and failures:
            warn(f"error: {len(failures)} of {self.count} files failed")
            for result in failures if again else ():
                self._print(result)
        return bool(failures)

    def _move(self) -> None:
        # Other threads change the dictionary meanwhile.
        self.bars.update(self.overall, completed=len(self.results) + sum(list(self.shares.values())))

    def _named(self, text: object) -> str:
        """Replaces the temporary file of standard input by ``-``."""
        return str(text).replace(self.piped, "-")

    def _print(self, result: "FileResult") -> None:
        for warning in result.warnings:
            warn(f"warning: {warning}")
        if result.error is not None:
            warn(f"error: {result.error}")
        elif result.skipped:
            first = next(iter(result.outputs.values()))
            line = f"{result.source}: already separated by this model with these options: {first} (--overwrite repeats)"
            typer.echo(line, self.stdout)
        else:
            for path in result.outputs.values():
                typer.echo(path, self.stdout)
            warn(_speed(result.seconds, result.elapsed))


def _load(options: "SeparationOptions", bars: "Progress") -> "Separator":
    """The separator, with a bar for every model while it is downloaded."""
    from ..separation import Separator

    tasks: dict[str, TaskID] = {}

    def report(model: str, done: int, total: int) -> None:
        if model not in tasks:
            tasks[model] = bars.add_task(f"downloading {model}", total=total)
        bars.update(tasks[model], completed=done)

    separator = Separator(options, download=report)
    for task in tasks.values():
        bars.remove_task(task)
    return separator


def _speed(seconds: float, elapsed: float) -> str:
    return f"{seconds:.1f} s in {elapsed:.1f} s: real-time factor {elapsed / seconds:.3f}"


def _bits_per_second(bitrate: str | None) -> int | None:
    if bitrate is None:
        return None
    digits = bitrate.lower().removesuffix("k")
    if not digits.isdecimal() or not int(digits):
        raise OptionError(f"bitrate {bitrate!r}: expected a number of kbit/s, such as 192")
    return 1000 * int(digits)


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise OptionError(f"weights {text!r}: expected numbers separated by commas, such as 2,1") from error
