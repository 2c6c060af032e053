"""``frame-transformer models`` and ``import``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from .common import echo_json


def models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the named models."""
    from ..checkpoints import list_models

    known = list_models()
    if as_json:
        echo_json([dataclasses.asdict(info) for info in known])
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "family", "parameters", "source", "licence", "here")
    for info in known:
        here = "yes" if info.cached else "no"
        table.add_row(info.name, info.family, f"{info.parameters:,}", info.source, info.licence, here)
    Console().print(table)


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the original research code.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The .safetensors file to write.")] = None,
) -> None:
    """Convert a checkpoint of the original research code to a safetensors file."""
    from ..checkpoints import load_checkpoint, save_model
    from ..errors import ModelError

    if not checkpoint.is_file():
        raise ModelError(f"{checkpoint}: no such file")
    target = output or checkpoint.with_suffix(".safetensors")
    save_model(load_checkpoint(checkpoint), target)
    typer.echo(target)
