"""``frame-transformer separate``."""

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OptionError
from .common import Device, progress_bars

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from ..separation import FileResult, SeparationOptions, Separator

EPILOG = (
    "Exit codes: 0 all separated, 1 a file failed, 2 wrong usage, 130 stopped by Ctrl-C. Environment: "
    "FRAME_TRANSFORMER_DEVICE sets --device, FRAME_TRANSFORMER_CACHE the folder of downloaded models, NO_COLOR turns "
    "colours off."
)


def _model_names(incomplete: str) -> list[str]:
    from ..hub import CARDS

    return [name for name in CARDS if name.startswith(incomplete)]


def separate(
    songs: Annotated[list[str], typer.Argument(help="Files, folders, glob patterns or m3u playlists.")],
    model: Annotated[
        list[str],
        typer.Option(
            "-n", "--model", autocompletion=_model_names, help="Model name or file; several form an ensemble."
        ),
    ] = ["default"],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder of the outputs; with --cluster a URI, too.")
    ] = "separated",
    stems: Annotated[str, typer.Option(help="Stems to write, with commas between.")] = "vocals,instrumental",
    audio_format: Annotated[str, typer.Option("--format", help="wav, flac, mp3, m4a, ogg or opus.")] = "wav",
    bit_depth: Annotated[str | None, typer.Option(help="16, 24 or 32f (wav), 16 or 24 (flac).")] = None,
    bitrate: Annotated[str | None, typer.Option(help="kbit/s of a lossy format.")] = None,
    filename: Annotated[str, typer.Option(help="Template below the output folder.")] = "{model}/{track}/{stem}.{ext}",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16: what the network computes in.")] = "float32",
    engine: Annotated[str, typer.Option(help="torch, or onnx for files that export wrote.")] = "torch",
    window: Annotated[int | None, typer.Option(help="Frames kept of each pass of the network.")] = None,
    context: Annotated[int | None, typer.Option(help="Frames of context on each side.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window blended with the next, 0 to 0.5.")] = 0.0625,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows that pass the network together.")] = 1,
    tta: Annotated[
        bool, typer.Option("--tta", help="Average four sizes and positions of the window; four times the work.")
    ] = False,
    smoothing: Annotated[
        float, typer.Option(help="Clear vocals fainter than this share over long stretches; 0 is off, try 0.05.")
    ] = 0.0,
    ensemble: Annotated[str, typer.Option(help="mean, median, min or max of the models' masks.")] = "mean",
    weights: Annotated[str | None, typer.Option(help="Weights of the models in a mean, with commas between.")] = None,
    clip: Annotated[str, typer.Option(help="rescale, clamp or none: what happens beyond full scale.")] = "rescale",
    images: Annotated[bool, typer.Option("--images", help="Write spectrograms as PNG, too.")] = False,
    video: Annotated[bool, typer.Option("--video", help="Write cover and instrumental as MP4, too.")] = False,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Files in work at once.")] = 1,
    stream: Annotated[
        int | None, typer.Option(min=0, help="Audio stream of files that hold several, from 0; the default one.")
    ] = None,
    fill_gaps: Annotated[
        bool, typer.Option("--fill-gaps/--close-gaps", help="Silence where sound is missing, or nothing.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Separate again what is already there.")] = False,
    cluster: Annotated[
        str | None, typer.Option(help="Work on a Ray cluster: auto or its address; see docs/cluster.md.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Most workers on the cluster; as many as it has room for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file on standard output.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log what is done to standard error.")] = False,
) -> None:
    """Separate songs into vocals and instrumental."""
    from ..separation import (
        OutputOptions,
        SeparationOptions,
        find_songs,
        find_tracks,
        separate_files,
        separate_on_cluster,
    )

    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
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
        engine=engine,  # type: ignore[arg-type]
        stream=stream,
        fill_gaps=fill_gaps,
    )
    files = find_songs(songs) if cluster is None else []
    tracks = [] if cluster is None else find_tracks(songs)
    count = len(files) + len(tracks)
    results: list[FileResult] = []
    with progress_bars(as_json) as bars:
        started = time.monotonic()
        overall = bars.add_task("all files", total=count, visible=count > 1)
        tasks: dict[Path | str, TaskID] = {}

        def report(source: Path, done: int, total: int) -> None:
            if source not in tasks:
                tasks[source] = bars.add_task(source.name, total=total)
            bars.update(tasks[source], completed=done, total=total)

        if cluster is None:
            outcome = separate_files(_load(options, bars), files, outputs, report, jobs)
        else:
            outcome = separate_on_cluster(tracks, output, outputs, options, address=cluster, workers=workers)
        for result in outcome:
            results.append(result)
            bars.advance(overall)
            if result.source in tasks:
                bars.remove_task(tasks[result.source])
            if as_json:
                typer.echo(json.dumps(dataclasses.asdict(result), default=str, ensure_ascii=False))
            else:
                _print(result)
    failures = [result for result in results if result.error is not None]
    if count > 1 and not as_json:
        seconds, elapsed = sum(result.seconds for result in results), time.monotonic() - started
        if seconds:
            typer.echo(f"{count} files: {_speed(seconds, elapsed)}", err=True)
        if failures:
            typer.echo(f"error: {len(failures)} of {count} files failed", err=True)
            if cluster is not None:
                for result in failures:
                    _print(result)
    if failures:
        raise typer.Exit(1)


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


def _print(result: "FileResult") -> None:
    for warning in result.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if result.error is not None:
        typer.echo(f"error: {result.error}", err=True)
    elif result.skipped:
        first = next(iter(result.outputs.values()))
        typer.echo(f"{result.source}: already separated, {first} is there (--overwrite separates again)")
    else:
        for path in result.outputs.values():
            typer.echo(path)
        typer.echo(_speed(result.seconds, result.elapsed), err=True)


def _speed(seconds: float, elapsed: float) -> str:
    return f"{seconds:.1f} s in {elapsed:.1f} s: real-time factor {elapsed / seconds:.3f}"


def _bits_per_second(bitrate: str | None) -> int | None:
    if bitrate is None:
        return None
    digits = bitrate.lower().removesuffix("k")
    if not digits.isdecimal() or not int(digits):
        raise OptionError(f"bitrate {bitrate!r}: a number of kbit/s is needed, such as 192")
    return 1000 * int(digits)


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise OptionError(f"weights {text!r}: numbers with commas between are needed, such as 2,1") from error
