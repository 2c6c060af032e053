"""What was made of which song, with which weights and options: one JSON file a song in a hidden folder of the outputs.

The names of the files say enough for most questions, so that a catalogue's records need not be read: the place of the
stems, and the whole request (song, weights, options), both as digests.
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
        options: everything else that shapes the stems.
        outputs: the files by name, below the output folder, ``/`` between their parts.
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
        """The name of the record's file; ``place`` is where the stems lie, without what tells stems and formats apart.

        The folder of the song is no part of the request: a song that was moved or copied is the same song.
        """
        song = [self.source.replace("\\", "/").rpartition("/")[2], self.version]
        return f"{digest(place)}-{digest([song, self.weights, self.options, self.outputs])}.json"

    def is_same_song(self, other: "Record") -> bool:
        """Whether both are of one file, which may have been changed, or of copies of it."""
        if self.source == other.source:
            return True
        names = [record.source.replace("\\", "/").rpartition("/")[2] for record in (self, other)]
        return names[0] == names[1] and self.version is not None and self.version == other.version

    def is_same_model(self, other: "Record") -> bool:
        """Whether both are by one model, which may have been trained on, or by copies of it."""
        return self.models == other.models or self.weights == other.weights

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def parse_record(text: str | bytes) -> Record | None:
    """A record from JSON; None where it is none."""
    try:
        fields = json.loads(text)
        version = fields["version"]
        for name in ("models", "weights", "warnings"):
            fields[name] = tuple(fields[name])
        return Record(**fields | {"version": version and tuple(version)})
    except (ValueError, TypeError, KeyError):
        return None


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a value which JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


class OutputFolder(Protocol):
    """Where outputs and their records lie. Paths are below it, ``/`` between their parts."""

    def record_names(self) -> Iterable[str]:
        """Of the files in the folder of records."""

    def read_record(self, name: str) -> Record | None:
        """The record in a file; None where there is none that can be read."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def address(self, path: str) -> str:
        """The absolute path or URI of a file."""

    def put(self, file: Path, path: str) -> None:
        """Copies a file to its place, where it appears whole or not at all. Raises OSError."""

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
