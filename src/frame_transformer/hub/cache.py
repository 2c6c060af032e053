"""From a card to a checked file on this machine."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from ..errors import DownloadError
from . import mega
from .cards import ModelCard, card_path


def download(card: ModelCard, progress: mega.Progress | None = None, *, api: str = mega.API) -> Path:
    """The card's file, fetched into the cache where it is not there yet; safe when several processes ask at once.

    A file in the cache is checked each time against the SHA-256 that was recorded beside it (``FILENAME.json``). A file
    that was put there by hand is checked against the MAC in the card's link, and recorded.

    Args:
        progress: called with (bytes done, bytes in all) while fetching; what it raises ends the transfer, which a later
            call resumes.
        api: base address of the mega.nz service.

    Raises:
        DownloadError: the file cannot be fetched or written, or is not what was published.
    """
    path = card_path(card)
    if card.url is None:
        if not path.is_file():
            raise DownloadError(f"{path}: missing, it is part of the package; install frame-transformer again")
        return path
    try:
        if not path.is_file() and _fetch(card, card.url, path, progress, api):
            return path
        _verify(card, card.url, path)
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(
            f"{path}: {reason}; FRAME_TRANSFORMER_CACHE can name another folder for downloaded models"
        ) from error
    return path


def _fetch(card: ModelCard, url: str, path: Path, progress: mega.Progress | None, api: str) -> bool:
    """Whether this process fetched the file: not so where another one did meanwhile."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.is_file():
            return False
        part = path.with_name(f"{path.name}.part")
        mega.fetch(url, part, progress, api)
        digest = _sha256(part)
        if card.sha256 not in (None, digest):
            part.unlink()
            raise DownloadError(f"{url}: the file has SHA-256 {digest}, published was {card.sha256}; it was removed")
        _record(path, url, digest)
        os.replace(part, path)
        return True


def _verify(card: ModelCard, url: str, path: Path) -> None:
    digest = _sha256(path)
    expected = card.sha256 or _recorded(path)
    if expected is None and mega.matches(path, url):
        with contextlib.suppress(OSError):  # a cache that cannot be written serves all the same
            _record(path, url, digest)
    elif digest != expected:
        raise DownloadError(f"{path}: damaged or not the published file; delete it to have it downloaded again")


def _record(path: Path, url: str, digest: str) -> None:
    _record_path(path).write_text(json.dumps({"url": url, "sha256": digest}) + "\n")


def _recorded(path: Path) -> str | None:
    try:
        return json.loads(_record_path(path).read_text())["sha256"]
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
