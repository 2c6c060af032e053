"""``frame-transformer train``."""

import typer

from ..errors import OptionError


def train(context: typer.Context) -> None:
    """Train a model on your own songs: --config NAME --data.instrumentals DIR --data.vocals DIR.

    All arguments are those of the trainer; `frame-transformer train --help` lists them.
    """
    try:
        from lightning.pytorch.utilities import rank_zero_only

        from ..training.run import train as run
    except ModuleNotFoundError as error:
        raise OptionError(
            f"training needs {error.name}: install it with pip install 'frame-transformer[train]'"
        ) from error
    rank_zero_only(typer.echo)(run(context.args))
