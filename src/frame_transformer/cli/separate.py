"""``frame-transformer separate``."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer


def separate(
    songs: Annotated[list[str], typer.Argument(help="Files, folders, glob patterns or m3u playlists.")],
    model: Annotated[list[str], typer.Option("-n", "--model", help="Model name or file; several form an ensemble.")] = [
        "default"
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the outputs.")] = Path("separated"),
    stems: Annotated[str, typer.Option(help="Stems to write, with commas between.")] = "vocals,instrumental",
    audio_format: Annotated[str, typer.Option("--format", help="wav, flac, mp3, m4a, ogg or opus.")] = "wav",
    bit_depth: Annotated[str | None, typer.Option(help="16, 24 or 32f (wav), 16 or 24 (flac).")] = None,
    bitrate: Annotated[int | None, typer.Option(help="kbit/s of a lossy format.")] = None,
    filename: Annotated[str, typer.Option(help="Template below the output folder.")] = "{model}/{track}/{stem}.{ext}",
    device: Annotated[
        str, typer.Option("-d", "--device", envvar="FRAME_TRANSFORMER_DEVICE", help="auto, cpu, cuda or mps.")
    ] = "auto",
    window: Annotated[int | None, typer.Option(help="Frames kept of each pass of the network.")] = None,
    context: Annotated[int | None, typer.Option(help="Frames of context on each side.")] = None,
    overlap: Annotated[float, typer.Option(help="Share of a window blended with the next, 0 to 0.5.")] = 0.25,
    ensemble: Annotated[str, typer.Option(help="mean, median, min or max of the models' masks.")] = "mean",
    clip: Annotated[str, typer.Option(help="rescale, clamp or none.")] = "rescale",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Separate again what is already there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file on standard output.")] = False,
) -> None:
    """Separate songs into vocals and instrumental."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from ..separation import OutputOptions, Separator, find_songs, separate_files

    options = OutputOptions(
        output,
        filename,
        tuple(stem.strip() for stem in stems.split(",") if stem.strip()),
        audio_format,
        bit_depth,
        None if bitrate is None else 1000 * bitrate,
        clip,  # type: ignore[arg-type]
        overwrite,
    )
    files = find_songs(songs)
    separator = Separator(
        model,
        device=device,
        window=window,
        context=context,
        overlap=overlap,
        ensemble=ensemble,  # type: ignore[arg-type]
    )
    name = "+".join(Path(item).stem for item in model)
    console = Console(stderr=True)
    failures = 0
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console,
        disable=as_json or not console.is_terminal,
    )  # fmt: skip
    with bars:
        tasks: dict[Path, TaskID] = {}

        def report(source: Path, done: int, total: int) -> None:
            if source not in tasks:
                tasks[source] = bars.add_task(source.name, total=total)
            bars.update(tasks[source], completed=done)

        for result in separate_files(separator, files, options, name, report):
            failures += result.error is not None
            if as_json:
                typer.echo(json.dumps(dataclasses.asdict(result), default=str, ensure_ascii=False))
                continue
            for warning in result.warnings:
                typer.echo(f"warning: {warning}", err=True)
            if result.error is not None:
                typer.echo(f"error: {result.error}", err=True)
            elif result.skipped:
                typer.echo(f"{result.source}: already separated (--overwrite separates again)")
            else:
                for path in result.outputs.values():
                    typer.echo(path)
                factor = result.elapsed / result.seconds
                typer.echo(f"{result.seconds:.1f} s in {result.elapsed:.1f} s: real-time factor {factor:.3f}", err=True)
    if failures:
        if len(files) > 1:
            typer.echo(f"error: {failures} of {len(files)} files failed", err=True)
        raise typer.Exit(1)
