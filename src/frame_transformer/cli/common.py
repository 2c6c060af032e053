"""What several commands share."""

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
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Log what is done to standard error.")]


def log(verbose: bool) -> None:
    """Sends the package's messages to standard error, where that is asked for."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")


def warn(text: str) -> None:
    """One line on standard error, whatever control characters and bytes the names in it hold."""
    kinds = ("Cc", "Cs", "Zl", "Zp")
    typer.echo("".join(repr(c)[1:-1] if unicodedata.category(c) in kinds else c for c in text), err=True)


def echo_json(value: Any, file: IO[str] | None = None) -> None:
    """JSON in one line on standard output, or to a file; bytes of names that are not UTF-8 are escaped."""
    text = json.dumps(value, default=str, ensure_ascii=False, allow_nan=False)
    typer.echo(text.encode(errors="backslashreplace").decode(), file)


def progress_bars(quiet: bool = False) -> "Progress":
    """Bars with percent and time left, on standard error where that is a terminal; they leave nothing behind."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console, disable=quiet or not console.is_terminal, transient=True,
    )  # fmt: skip


@contextmanager
def counted(quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """One bar that is told (steps done, steps in all, what was done last, by name or path)."""
    with progress_bars(quiet) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total, name: bars.update(bar, completed=done, total=total, description=Path(name).name)


class _WithFlags:
    """Help that shows flags as flags; Typer gives them the type ``<bool>``, as if they took a value."""

    def get_params(self, ctx: Any) -> Any:
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class Command(_WithFlags, TyperCommand):
    """A command whose help shows flags as flags."""


class Group(_WithFlags, TyperGroup):
    """A group of commands whose help shows flags as flags."""
