"""The command: parses, calls the API, prints. One module a command; what they need is imported when they run."""

import sys
from typing import Annotated

import typer

from ..errors import FrameTransformerError, OptionError
from . import data, environment, evaluate, export, models, separate, train, web
from .dialects import TranslatedCommand

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


app.command(cls=TranslatedCommand, epilog=separate.EPILOG)(separate.separate)
app.command()(evaluate.evaluate)
app.command()(models.models)
app.command(name="import")(models.import_checkpoint)
app.command()(export.export)
app.command()(environment.env_info)
app.command()(web.web)
app.add_typer(data.app, name="data")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    train.train
)


def main() -> None:
    """Runs the command; errors meant for the user are one line and exit code 1, or 2 for wrong usage; Ctrl-C is 130."""
    try:
        app()
    except FrameTransformerError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
