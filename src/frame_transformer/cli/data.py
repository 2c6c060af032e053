"""``frame-transformer data``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from .common import Command, Device, Group, Verbose, counted, echo_json, log

app = typer.Typer(cls=Group, help="Scan and prepare training data.", no_args_is_help=True)

Folders = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="Data folders, with subfolders instrumentals, vocals, songs (or stems, pairs) and unlabelled (or music); "
        "any other folder of songs with stems, such as MUSDB18, or of unlabelled music.",
    ),
]
Instrumentals = Annotated[list[Path], typer.Option(help="Folder of instrumentals. All folders may be repeated.")]
Vocals = Annotated[list[Path], typer.Option(help="Folder of vocals.")]
Songs = Annotated[list[Path], typer.Option(help="Folder of songs with stems, or mixtures and instrumentals.")]
Unlabelled = Annotated[list[Path], typer.Option(help="Folder of any music, for pretraining.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
LISTED = 20


@app.command(cls=Command)
def scan(
    folders: Folders = None,
    instrumentals: Instrumentals = [],
    vocals: Vocals = [],
    songs: Songs = [],
    unlabelled: Unlabelled = [],
    index: Annotated[Path, typer.Option(help="Index file to write or update.")] = Path("index.json"),
    detect_vocals: Annotated[
        bool, typer.Option(help="Look for vocals in the instrumentals by separating excerpts.")
    ] = True,
    threshold: Annotated[float, typer.Option(help="Level in dB above which vocals are reported.")] = -20.0,
    model: Annotated[str, typer.Option("-n", "--model", help="Model that detects vocals.")] = "default",
    device: Device = "auto",
    workers: Annotated[int, typer.Option("-j", "--workers", min=1, help="Files read at the same time.")] = 2,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Index audio files: contents, duplicates, and what should not be trained on.

    A second run reads only new and changed files.
    """
    from ..data import gather
    from ..data import scan as scan_songs

    log(verbose)
    found = gather(
        folders or [], {"instrumentals": instrumentals, "vocals": vocals, "songs": songs, "unlabelled": unlabelled}
    )
    detector = None
    if detect_vocals and any(song.role == "instrumentals" for song in found):
        from ..separation import VocalsLevel

        detector = VocalsLevel(model, device)
    with counted(as_json) as report:
        result = scan_songs(found, index, detector, model, report, workers)
    summary = result.summary(found, threshold)
    if as_json:
        echo_json({"index": str(index)} | summary)
        return
    _table(summary["roles"])
    typer.echo(f"{index}: {summary['files']} files, {summary['read']} of them read by this run")
    _list("do not decode", [failure["error"] for failure in summary["failures"]])
    _list("contain only silence", summary["silent"])
    _list("groups of exact duplicates", [" = ".join(group) for group in summary["duplicates"]])
    _list("groups of near duplicates", [" ~ ".join(group) for group in summary["near_duplicates"]])
    suspects = [f"{suspect['file']}: {suspect['level']:.0f} dB" for suspect in summary["with_vocals"]]
    _list(f"instrumentals may contain vocals (above {threshold:g} dB)", suspects)


@app.command(cls=Command)
def prepare(
    folders: Folders = None,
    instrumentals: Instrumentals = [],
    vocals: Vocals = [],
    songs: Songs = [],
    unlabelled: Unlabelled = [],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the prepared songs.")] = Path("prepared"),
    index: Annotated[
        Path | None, typer.Option(help="Index of a scan; skips unusable songs, keeps near duplicates in one split.")
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Decode songs once, so that training can read crops from them.

    A second run decodes only new and changed songs.
    """
    from ..data import Index, gather, read_index, read_prepared
    from ..data import prepare as prepare_songs

    log(verbose)
    found = gather(
        folders or [], {"instrumentals": instrumentals, "vocals": vocals, "songs": songs, "unlabelled": unlabelled}
    )
    usable, left_out = (read_index(index) if index else Index()).usable(found)
    with counted(as_json) as report:
        done = prepare_songs(usable, output, report)
    skipped = left_out + done.skipped
    if len(skipped) == len(found):
        raise DataError(f"none of the {len(found)} songs can be used, the first because: {skipped[0][1]}")
    ready = read_prepared(output)
    roles: dict[str, dict[str, float]] = {}
    for song in ready:
        role = roles.setdefault(song.role, {"songs": 0, "files": 0, "seconds": 0.0})
        role["songs"] += 1
        role["files"] += len(song.stems)
        role["seconds"] += song.seconds
    if as_json:
        summary = {
            "output": str(output),
            "prepared": done.prepared,
            "up_to_date": done.up_to_date,
            "skipped": [{"song": name, "reason": reason} for name, reason in skipped],
            "roles": roles,
        }
        echo_json(summary)
        return
    _table(roles)
    typer.echo(f"{output}: {len(done.prepared)} songs prepared, {len(done.up_to_date)} were up to date")
    _list("songs skipped", [f"{name}: {reason}" for name, reason in skipped])


def _table(roles: dict[str, dict[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("role", "songs", "files", "hours")
    for role, row in roles.items():
        table.add_row(role, f"{row['songs']:,}", f"{row['files']:,}", f"{row['seconds'] / 3600:.2f}")
    Console().print(table)


def _list(what: str, lines: list[str]) -> None:
    if not lines:
        return
    typer.echo(f"{len(lines)} {what}:")
    for line in lines[:LISTED]:
        typer.echo(f"  {line}")
    if len(lines) > LISTED:
        typer.echo(f"  and {len(lines) - LISTED} more (--json lists all)")
