"""``frame-transformer evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Device, Verbose, counted, echo_json, log, warn

if TYPE_CHECKING:
    from ..evaluation import Evaluation


def evaluate(
    songs: Annotated[
        list[Path],
        typer.Argument(help="Folders of songs with stems (MUSDB18, MUSDB18-HQ, or a folder each), or .stem.mp4."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("-n", "--model", help="Model name or file, or an ensemble A+B; may be repeated."),
    ] = None,
    estimates: Annotated[
        list[str] | None,
        typer.Option("-e", "--estimates", help="Folder of stems from another tool, or NAME=FOLDER; may be repeated."),
    ] = None,
    baselines: Annotated[
        str, typer.Option(help="Baselines, separated by commas: mixture, irm and ibm (ideal masks); or none.")
    ] = "mixture,irm,ibm",
    metrics: Annotated[
        str, typer.Option(help="Metrics, separated by commas.")
    ] = "cSDR,ISR,SIR,SAR,uSDR,SI-SDR,bleedless,fullness",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for scores and reports.")] = Path("evaluation"),
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=1, help="Songs evaluated at the same time; default: one per core, at most 4."),
    ] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Score again what was scored before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of tables.")] = False,
    verbose: Verbose = False,
) -> None:
    """Compare models, ensembles and other tools on songs whose true stems are known."""
    from .. import evaluation

    log(verbose)
    with counted() as report:
        # The default model is not added to a comparison of folders.
        models = model or ([] if estimates else ["default"])
        result = evaluation.evaluate(
            songs,
            [_members(name) for name in models],
            estimates=dict(_named(folder) for folder in estimates or []),
            baselines=_split(baselines),
            metrics=_split(metrics),
            output=output,
            jobs=jobs,
            device=device,
            overwrite=overwrite,
            progress=report,
        )
    written = result.write(output)
    if as_json:
        echo_json(result.to_dict())
    else:
        _print_tables(result)
    for warning in result.warnings:
        warn(f"warning: {warning}")
    for error in result.errors:
        warn(f"error: {error}")
    warn(f"written: {', '.join(str(path) for path in written)}")
    if result.errors:
        total = len(result.songs) * len(result.systems)
        warn(f"error: {total - len(result.scores)} of {total} scores failed")
        raise typer.Exit(1)


def _print_tables(result: "Evaluation") -> None:
    from rich.console import Console
    from rich.table import Table

    from ..separation import STEMS

    console = Console(markup=False)  # names may hold brackets
    if not console.is_terminal:
        console = Console(markup=False, width=200)
    for stem in STEMS:
        head, *rows = result.table(stem)
        table = Table(title=stem, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for title in head:
            table.add_column(title, justify="left" if title == "system" else "right", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table, end="\n\n")
    console.print(
        "cSDR, ISR, SIR, SAR: median over frames of 1 s, median over songs; others: whole song, mean over songs."
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip() not in ("", "none")]


def _members(name: str) -> list[str]:
    return [name] if Path(name).is_file() else name.split("+")


def _named(folder: str) -> tuple[str, Path]:
    name, equals, path = folder.partition("=")
    return (name, Path(path)) if equals and not Path(folder).is_dir() else (Path(folder).resolve().name, Path(folder))
