"""``frame-transformer export``."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    model: Annotated[str, typer.Argument(help="Model name or file.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write; default: the model's name, in the current folder."),
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="onnx, or torch for a torch.export program.")] = "onnx",
) -> None:
    """Export a model to ONNX or as a torch.export program, and compare it with PyTorch."""
    from ..checkpoints import export_model, load_model

    target = output or Path(f"{Path(model).stem}{'.pt2' if file_format == 'torch' else '.onnx'}")
    difference = export_model(load_model(model), target, file_format)
    typer.echo(target)
    typer.echo(f"largest difference from PyTorch: {difference:.1e} of the largest output", err=True)
