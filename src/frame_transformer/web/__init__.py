"""The web page: drop songs, listen to their stems in sync, download them. Requires the extra ``web``."""

from .limits import Limits
from .server import PageOptions, create_app, serve

__all__ = ["Limits", "PageOptions", "create_app", "serve"]
