"""Options and output shared by several commands."""

import json
import logging
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from rich.progress import Progress

Device = Annotated[
    str, typer.Option("-d", "--device", envvar="FRAME_TRANSFORMER_DEVICE", help="auto, cpu, cuda or mps.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Log details to standard error.")]


def log(verbose: bool) -> None:
    """Sends log messages to standard error if ``verbose`` is set."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


def warn(text: str) -> None:
    """Prints one line on standard error, with control characters and invalid bytes escaped."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    typer.echo("".join(repr(c)[1:-1] if unicodedata.category(c) in kinds else c for c in text), err=True)


def echo_json(value: Any, file: IO[str] | None = None) -> None:
    """Prints JSON in one line on standard output or to a file; bytes that are not UTF-8 are escaped."""
    text = json.dumps(value, default=str, ensure_ascii=False, allow_nan=False)
    typer.echo(text.encode(errors="backslashreplace").decode(), file)


def progress_bars(quiet: bool = False) -> "Progress":
    """Transient progress bars with percent and time left, on standard error if it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console, disable=quiet or not console.is_terminal, transient=True,
    )  # fmt: skip


@contextmanager
def counted(quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar, updated by calls with (steps done, total steps, name or path of the last one)."""
    with progress_bars(quiet) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total, name: bars.update(bar, completed=done, total=total, description=Path(name).name)


class _WithFlags:
    """Help without a type for flags; Typer shows ``<bool>``, as if they took a value."""

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_WithFlags, TyperCommand):
    """A command whose help shows no type for flags."""


class Group(_WithFlags, TyperGroup):
    """A group of commands whose help shows no type for flags."""
