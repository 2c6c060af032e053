"""``frame-transformer env-info``."""

import typer


def env_info() -> None:
    """Print versions and devices, for bug reports."""
    import platform
    from importlib.metadata import version

    import torch

    typer.echo(f"frame-transformer {version('frame-transformer')}, Python {platform.python_version()}")
    typer.echo(f"{platform.platform()}, torch {torch.__version__}, PyAV {version('av')}")
    typer.echo(f"CUDA {torch.cuda.is_available()}, MPS {torch.backends.mps.is_available()}")
