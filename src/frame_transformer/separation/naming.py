"""File names of stems: the path template, and names that are valid on the file system."""

import os
import string
from pathlib import PurePosixPath

from ..errors import OptionError

FIELDS = ("model", "folder", "track", "stem", "ext")
# Most file systems limit names to 255 bytes; some are needed for a number, the name of the stem and the suffix.
MAX_NAME_BYTES = 200
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{name}{number}" for name in ("COM", "LPT") for number in range(10))}


def safe_name(name: str, max_bytes: int = MAX_NAME_BYTES, windows: bool = os.name == "nt") -> str:
    """Turns a name into one part of a valid path, at most ``max_bytes`` long.

    On Windows, what it does not allow (reserved names, ``<>:"/\\|?*``, dots and spaces at the end) becomes ``_``.
    """
    encoded = os.fsencode(name)
    if len(encoded) > max_bytes:
        name = encoded[:max_bytes].decode(errors="ignore")
    if windows:
        name = "".join("_" if letter in '<>:"/\\|?*' or ord(letter) < 32 else letter for letter in name)
        kept = name.rstrip(". ")
        name = kept + "_" * (len(name) - len(kept))
        if kept.partition(".")[0].rstrip().upper() in RESERVED:
            name = f"_{name}"
    return "_" * len(name) if name in (".", "..") else name


def check_template(template: str) -> None:
    """Accepts a template of text and the fields ``{model}``, ``{folder}``, ``{track}``, ``{stem}`` and ``{ext}``.

    Raises:
        OptionError: it contains other fields, or leads out of the output folder.
    """
    try:
        fields = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise OptionError(f"file name template {template!r}: {error}") from error
    if any(name not in FIELDS or spec or how for name, spec, how in fields) or "\0" in template:
        raise OptionError(f"file name template {template!r}: use {' '.join(f'{{{name}}}' for name in FIELDS)}")
    for folder in ("", "folder"):
        path = os.path.normpath(_format(template, "model", folder, "track", "stem", "ext"))
        if os.path.isabs(template) or os.path.isabs(path) or path.split(os.sep)[0] in (os.pardir, os.curdir):
            raise OptionError(f"file name template {template!r} leaves the output folder")


def fill_template(template: str, model: str, folder: str, track: str, stem: str, ext: str) -> str:
    """The path of a file relative to the output folder, separated by ``/``."""
    folders = "/".join(safe_name(part) for part in PurePosixPath(folder).parts)
    filled = _format(template, safe_name(model), folders, safe_name(track), stem, ext)
    return os.path.normpath(filled).replace(os.sep, "/")


def _format(template: str, model: str, folder: str, track: str, stem: str, ext: str) -> str:
    # An empty folder in front must not make the path absolute.
    return template.format(model=model, folder=folder, track=track, stem=stem, ext=ext).lstrip("/")


def numbered(name: str, number: int) -> str:
    """The name itself for number 1, then ``name (2)`` and so on."""
    return name if number == 1 else f"{safe_name(name, MAX_NAME_BYTES - 10)} ({number})"
