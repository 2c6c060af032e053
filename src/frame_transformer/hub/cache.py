"""Downloads model files into the cache and verifies them."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from ..errors import DownloadError
from . import mega
from .cards import ModelCard, card_path


def download(card: ModelCard, progress: mega.Progress | None = None, *, api: str = mega.API) -> Path:
    """Returns the model file, downloading it if it is not in the cache. Several processes may call this at once.

    A cached file is checked against the SHA-256 recorded beside it (``FILENAME.json``). A file that was put there by
    hand is checked against the MAC in the link, and its digest is recorded.

    Args:
        progress: called with (bytes done, total bytes). An exception from it stops the transfer; the next call resumes
            it.
        api: base address of the mega.nz service.

    Raises:
        DownloadError: the file cannot be downloaded or written, or differs from the published one.
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
    """Downloads the file; false if another process did so meanwhile."""
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
        with contextlib.suppress(OSError):  # a read-only cache is fine
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
