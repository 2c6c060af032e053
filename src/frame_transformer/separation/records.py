"""Records of finished separations: one JSON file per song in a hidden folder of the outputs.

A file name contains digests of the place of the stems and of the whole request (song, weights, options). So a listing
of the names answers most questions without reading the records.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..files import whole

RECORDS = ".frame-transformer"


@dataclass(frozen=True)
class Record:
    """One song's separation.

    Attributes:
        source: absolute path or URI of the song. version: see :class:`Song`.
        models: names or absolute paths of the models, as far as they were known. weights: digests of their weights.
        options: everything else that affects the stems.
        outputs: the files by name, as paths relative to the output folder, separated by ``/``.
        seconds: of audio. elapsed: seconds of work. warnings: as in :class:`FileResult`.
    """

    source: str
    version: tuple[int, int] | None
    models: tuple[str, ...]
    weights: tuple[str, ...]
    options: dict[str, Any]
    outputs: dict[str, str]
    seconds: float = 0.0
    elapsed: float = 0.0
    warnings: tuple[str, ...] = ()

    def file_name(self, place: str) -> str:
        """The name of the record's file. ``place`` is the path of the stems without the fields for stem and format.

        The folder of the song is not part of the request, so a song that was moved or copied is the same song.
        """
        song = [self.source.replace("\\", "/").rpartition("/")[2], self.version]
        return f"{digest(place)}-{digest([song, self.weights, self.options, self.outputs])}.json"

    def is_same_song(self, other: "Record") -> bool:
        """Whether both are of the same file, possibly changed since, or of copies of it."""
        if self.source == other.source:
            return True
        names = [record.source.replace("\\", "/").rpartition("/")[2] for record in (self, other)]
        return names[0] == names[1] and self.version is not None and self.version == other.version

    def is_same_model(self, other: "Record") -> bool:
        """Whether both are by the same model, possibly trained further, or by copies of it."""
        return self.models == other.models or self.weights == other.weights

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def parse_record(text: str | bytes) -> Record | None:
    """Parses a record from JSON; None if it is not one."""
    try:
        fields = json.loads(text)
        version = fields["version"]
        for name in ("models", "weights", "warnings"):
            fields[name] = tuple(fields[name])
        return Record(**fields | {"version": version and tuple(version)})
    except (ValueError, TypeError, KeyError):
        return None


def digest(value: Any) -> str:
    """A hash of a JSON value: sixteen hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class OutputFolder(Protocol):
    """A folder of outputs and their records. Paths are relative to it and separated by ``/``."""

    def record_names(self) -> Iterable[str]:
        """The names of the files in the folder of records."""

    def read_record(self, name: str) -> Record | None:
        """The record in a file; None if it is missing or cannot be read."""

    def has(self, path: str) -> bool:
        """Whether the file exists."""

    def address(self, path: str) -> str:
        """The absolute path or URI of a file."""

    def put(self, file: Path, path: str) -> None:
        """Copies a file to ``path`` atomically. Raises OSError."""

    def remove(self, path: str) -> None:
        """Removes a file, if there is one."""


class LocalFolder:
    """An :class:`OutputFolder` on a disk of this machine."""

    def __init__(self, root: Path):
        self.root = root

    def record_names(self) -> list[str]:
        try:
            return [path.name for path in (self.root / RECORDS).iterdir()]
        except OSError:
            return []

    def read_record(self, name: str) -> Record | None:
        try:
            return parse_record((self.root / RECORDS / name).read_bytes())
        except OSError:
            return None

    def has(self, path: str) -> bool:
        return (self.root / path).is_file()

    def address(self, path: str) -> str:
        folder, name = os.path.split(self.root / path)
        return os.path.join(os.path.realpath(folder), name)

    def put(self, file: Path, path: str) -> None:
        with whole(self.root / path) as temporary:
            shutil.copyfile(file, temporary)

    def remove(self, path: str) -> None:
        (self.root / path).unlink(missing_ok=True)


def recorded_stems(folder: Path) -> frozenset[Path]:
    """The files below a folder that were written there by separations."""
    if not (folder / RECORDS).is_dir():
        return frozenset()
    local = LocalFolder(folder)
    records = map(local.read_record, local.record_names())
    return frozenset(folder / path for record in records if record is not None for path in record.outputs.values())
