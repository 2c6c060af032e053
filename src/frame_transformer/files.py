"""Atomic writing of files, and temporary files that are cleaned up even after a crash."""

import contextlib
import hashlib
import os
import re
import shutil
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
_TEMPORARY = re.compile(rf"\.[0-9a-f]{{12}}-{_HOST}-(\d{{1,9}})\.part|frame-transformer-{_HOST}-(\d{{1,9}})-")
_in_use: set[Path] = set()
_tidied: set[Path] = set()


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` to write a file or a folder to, moved into place if the block succeeds.

    The folder of ``path`` is created if it is missing. The temporary name is hidden, has the suffix of ``path`` and
    contains the process id; files left behind by killed processes are removed. A file gets the permissions of the
    user's umask.

    Raises:
        OSError: the folder cannot be created, or the file cannot be moved into place.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}-{_HOST}-{os.getpid()}.part{path.suffix}")
    _in_use.add(temporary)
    try:
        # The default permissions of a new file; some libraries create files that only the owner can read.
        temporary.touch()
        permissions = temporary.stat().st_mode & 0o777
        temporary.unlink()
        yield temporary
        if temporary.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            temporary.chmod(permissions)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            _remove(temporary)
        _in_use.discard(temporary)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A temporary folder, removed at the end. Folders left behind by killed processes are removed first.

    Raises:
        OSError: the folder cannot be created.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"frame-transformer-{_HOST}-{os.getpid()}-") as folder:
        _in_use.add(Path(folder))
        try:
            yield Path(folder)
        finally:
            _in_use.discard(Path(folder))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files of dead processes of this machine from a folder; only once for each folder."""
    if folder in _tidied:
        return
    _tidied.add(folder)
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            match = _TEMPORARY.match(path.name)
            if match and path not in _in_use and not _is_running(int(match[1] or match[2])):
                with contextlib.suppress(OSError):
                    _remove(path)


def _is_running(process: int) -> bool:
    if process == os.getpid() or sys.platform == "win32":
        # Windows refuses to remove an open file.
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True
