"""The command-line interface, one module per command. Dependencies are imported when a command runs."""

import io
import sys
import warnings
from typing import Annotated

import typer

from ..errors import FrameTransformerError, FrameTransformerWarning, OptionError
from . import data, environment, evaluate, export, models, separate, train, web
from .aliases import TranslatedCommand
from .common import Command, Group, warn
from .signals import ended_by_signals

_python_format = warnings.formatwarning

app = typer.Typer(
    cls=Group,
    help="Separate songs into vocals and instrumental, and train models for it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _version(value: bool) -> None:
    if value:
        from .. import __version__

        typer.echo(f"frame-transformer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    # Lightning handles signals during training, so that a checkpoint is written.
    if context.invoked_subcommand != "train":
        context.with_resource(ended_by_signals())


app.command(cls=TranslatedCommand, epilog=separate.EPILOG)(separate.separate)
app.command(cls=Command)(evaluate.evaluate)
app.command(cls=Command)(models.models)
app.command(name="import", cls=Command)(models.import_checkpoint)
app.command(cls=Command)(export.export)
app.command(cls=Command)(environment.env_info)
app.command(cls=Command)(web.web)
app.add_typer(data.app, name="data")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    train.train
)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Formats warnings of this package in one line, and others as Python does."""
    if issubclass(category, FrameTransformerWarning):
        return f"warning: {message}\n"
    return _python_format(message, category, filename, lineno, line)


def main() -> None:
    """Runs the command; errors meant for the user are one line and exit code 1, or 2 for wrong usage; Ctrl-C is 130."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names that are not UTF-8 are printed as their original bytes.
        sys.stdout.reconfigure(errors="surrogateescape")
    warnings.formatwarning = _format_warning
    try:
        app()
    except FrameTransformerError as error:
        warn(f"error: {error}")
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
