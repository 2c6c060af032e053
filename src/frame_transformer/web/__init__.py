"""The web page: drop songs, listen to their stems in sync, download them. Needs the extra ``web``."""

from .server import PageOptions, create_app, serve

__all__ = ["PageOptions", "create_app", "serve"]
