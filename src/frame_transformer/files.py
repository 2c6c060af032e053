"""Files that appear whole or not at all, and temporary ones that do not outlive their process for long."""

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
    """A temporary path beside ``path`` to write a file or a folder to, moved into place where the block ends well.

    The folder of ``path`` is made where it is missing. The temporary name is hidden, has the suffix of ``path`` and
    names this process: what an earlier process left behind in that folder when it was killed is removed. A file gets
    the permissions of the user's umask.

    Raises:
        OSError: the folder cannot be made, or the file cannot be moved into place.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}-{_HOST}-{os.getpid()}.part{path.suffix}")
    _in_use.add(temporary)
    try:
        # The permissions of a new file here; some libraries create theirs readable by the owner alone.
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
    """A folder for temporary files, removed at the end; those of processes that were killed are removed before.

    Raises:
        OSError: the folder cannot be made.
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
    """Removes the temporary files of dead processes of this machine from a folder, once for each folder."""
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
        # Windows refuses to remove a file that a process has open.
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs for another user
        return True
    return True
