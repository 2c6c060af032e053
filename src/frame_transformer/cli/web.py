"""``frame-transformer web``."""

from typing import Annotated

import typer

from ..errors import OptionError
from .common import Device


def web(
    model: Annotated[
        list[str] | None,
        typer.Option("-n", "--model", help="Model name or file to offer; may be repeated; default: all."),
    ] = None,
    device: Device = "auto",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 7860,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host name of the page, such as that of a reverse proxy; may be repeated."),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(help="Address of a reverse proxy whose X-Forwarded-For is trusted."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("-j", "--jobs", min=1, help="Songs separated at the same time; the others wait in a queue.")
    ] = 1,
    password: Annotated[
        str | None,
        typer.Option(envvar="FRAME_TRANSFORMER_PASSWORD", help="Password that visitors must enter."),
    ] = None,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Maximum size of a file in MB.")] = 500,
    max_minutes: Annotated[int, typer.Option(min=1, help="Maximum length of a song in minutes.")] = 120,
    max_gigabytes: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Disk space for the files of all visitors in GB; default: 80 % of the free space."
        ),
    ] = None,
    keep_minutes: Annotated[
        float, typer.Option(min=0.01, help="Minutes until the files of an abandoned page are deleted.")
    ] = 60,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a web page that separates songs."""
    try:
        from ..web import PageOptions, serve
    except ModuleNotFoundError as error:
        raise OptionError(
            f"the web page needs {error.name}: install it with pip install 'frame-transformer[web]'"
        ) from error

    def opened(address: str) -> None:
        typer.echo(f"The page is at {address} (Ctrl-C stops it).")
        if host not in ("127.0.0.1", "::1", "localhost") and password is None:
            typer.echo("warning: everyone who reaches this address can use the page; see --password", err=True)
        if open_browser:
            typer.launch(address)

    serve(
        PageOptions(
            models=tuple(model) if model else None,
            device=device,
            jobs=jobs,
            max_megabytes=max_megabytes,
            max_minutes=max_minutes,
            max_gigabytes=max_gigabytes,
            keep_minutes=keep_minutes,
            password=password,
            hosts=tuple(allow_host or ()),
        ),
        host,
        port,
        opened,
        proxy,
    )
