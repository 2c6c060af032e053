"""What several commands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

Device = Annotated[
    str, typer.Option("-d", "--device", envvar="FRAME_TRANSFORMER_DEVICE", help="auto, cpu, cuda or mps.")
]


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
