"""The command: parses, calls the API, prints. One module a command; what they need is imported when they run."""

import sys
from typing import Annotated

import typer

from ..errors import FrameTransformerError, OptionError
from .data import app as data
from .dialects import TranslatedCommand
from .environment import env_info
from .evaluate import evaluate
from .export import export
from .models import import_checkpoint, models
from .separate import EPILOG as SEPARATE_EPILOG
from .separate import separate
from .train import train
from .web import web

app = typer.Typer(
    help="Take the voice out of a song, or the song away from the voice.",
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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command(cls=TranslatedCommand, epilog=SEPARATE_EPILOG)(separate)
app.command()(evaluate)
app.command()(models)
app.command(name="import")(import_checkpoint)
app.command()(export)
app.command()(env_info)
app.command()(web)
app.add_typer(data, name="data")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(train)


def main() -> None:
    """Runs the command; errors meant for the user are one line and exit code 1, or 2 for wrong usage; Ctrl-C is 130."""
    try:
        app()
    except FrameTransformerError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
