"""What stems are called: names that every file system takes, and a place of its own for every song of a batch."""

import contextlib
import functools
import itertools
import os
import string
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath
from typing import Any

from ..errors import OptionError
from .records import Record, RecordFolder, digest
from .songs import Song

FIELDS = ("model", "folder", "track", "stem", "ext")
# Most file systems end a name at 255 bytes; a number, the stem's name and its suffix need some of them.
MAX_NAME_BYTES = 200
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{name}{number}" for name in ("COM", "LPT") for number in range(10))}


def safe_name(name: str, max_bytes: int = MAX_NAME_BYTES, windows: bool = os.name == "nt") -> str:
    """A name that is one part of a path on this system, cut to ``max_bytes``.

    What Windows refuses (its reserved names, ``<>:"/\\|?*``, dots and spaces at the end) becomes ``_``, there alone.
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
        OptionError: it holds anything else, or leaves the output folder.
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
    """The path of a file below the output folder, ``/`` between its parts."""
    folders = "/".join(safe_name(part) for part in PurePosixPath(folder).parts)
    filled = _format(template, safe_name(model), folders, safe_name(track), stem, ext)
    return os.path.normpath(filled).replace(os.sep, "/")


def _format(template: str, model: str, folder: str, track: str, stem: str, ext: str) -> str:
    # An empty folder in front must not make the path absolute.
    return template.format(model=model, folder=folder, track=track, stem=stem, ext=ext).lstrip("/")


@dataclass(frozen=True)
class Request:
    """What is asked of every song of a batch, as far as it tells one song's stems from another's.

    Attributes:
        name: of the models, for ``{model}``.
        models: their names or absolute paths. weights: digests of their weights.
        options: all other options that shape the stems.
        template: see :func:`check_template`.
        outputs: the files of one song by name, given ``{model}``, ``{folder}`` and ``{track}``.
        overwrite: separate again what is already there.
    """

    name: str
    models: tuple[str, ...]
    weights: tuple[str, ...]
    options: dict[str, Any]
    template: str
    outputs: Callable[[str, str, str], dict[str, str]]
    overwrite: bool = False


@dataclass(frozen=True)
class PlannedSong:
    """A song, the record of what is to be made of it, and the name of the record's file.

    ``replaced`` are records of files that will be written over. ``is_done`` where all is there already; ``error`` says
    in a line why there can be no stems.
    """

    song: Song
    record: Record
    record_name: str = ""
    replaced: tuple[str, ...] = ()
    is_done: bool = False
    error: str | None = None


def plan_songs(songs: Sequence[Song], request: Request, folder: RecordFolder) -> list[PlannedSong]:
    """Where the stems of every song go, and which of them are there already.

    A song is done where a record names the same file (by name, size and time of change), weights and options, and all
    outputs are there. No stem takes the place of an input, of another song's stems or of another model's: the song's
    or the model's name then gets a number.
    """
    planner = _Planner(songs, request, folder)
    for number in itertools.count(1):
        with contextlib.suppress(_OtherModelError):
            return planner.plan(_numbered(request.name, number))
    raise AssertionError  # the count does not end


class _OtherModelError(Exception):
    """The stems of another model of the same name are in the way."""


class _Planner:
    def __init__(self, songs: Sequence[Song], request: Request, folder: RecordFolder):
        self.songs, self.request, self.folder = songs, request, folder
        self.records: dict[str, list[str]] = defaultdict(list)
        for name in folder.names():
            self.records[name.partition("-")[0]].append(name)
        self.read = functools.cache(folder.read)
        self.inputs = {_key(place): song for song in songs for place in _places(song)}

    def plan(self, model: str) -> list[PlannedSong]:
        taken: dict[str, Song] = {}
        return [self._plan_song(song, model, taken) for song in self.songs]

    def _plan_song(self, song: Song, model: str, taken: dict[str, Song]) -> PlannedSong:
        request = self.request
        folder, track = song.folder, song.file.stem
        numbers = itertools.count(2)
        while True:
            outputs = request.outputs(model, folder, track)
            record = Record(
                str(song.source if isinstance(song.source, str) else song.source.absolute()),
                song.version, request.models, request.weights, request.options, outputs,
            )  # fmt: skip
            place = fill_template(request.template, model, folder, track, "", "")
            name = record.file_name(place)
            keys = [_key(self.folder.address(path)) for path in outputs.values()]
            owner = next((known[key] for known in (self.inputs, taken) for key in keys if key in known), None)
            is_done = owner is None and name in self.records[digest(place)] and self._is_there(record)
            former = {} if owner is not None or is_done else self._former(place)
            stranger = next((other for other in former.values() if not record.is_same_song(other)), None)
            if owner is None and stranger is None:
                if "{model}" in request.template and not all(map(record.is_same_model, former.values())):
                    raise _OtherModelError
                taken.update(dict.fromkeys(keys, song))
                written = set(outputs.values())
                replaced = (other for other in former if written & set(former[other].outputs.values()))
                return PlannedSong(song, record, name, tuple(replaced), is_done and not request.overwrite)
            other = str(owner.source if owner is not None else stranger.source)
            if not folder and song.file.parent.name and "{folder}" in request.template and PurePath(other).name == song.file.name:
                folder = song.file.parent.name
            elif "{track}" in request.template:
                track = _numbered(song.file.stem, next(numbers))
            else:
                message = f"{song.source}: its stems would overwrite {other}: the file name template needs {{track}}"
                return PlannedSong(song, record, error=message)

    def _former(self, place: str) -> dict[str, Record]:
        """Records of what is at a place, by the names of their files."""
        records = {name: self.read(name) for name in self.records[digest(place)]}
        return {name: record for name, record in records.items() if record is not None and self._is_there(record)}

    def _is_there(self, record: Record) -> bool:
        return all(map(self.folder.is_file, record.outputs.values()))


def _places(song: Song) -> list[str]:
    """Where a song lies, by its own name and by that which links lead to."""
    if isinstance(song.source, str):
        return [song.source]
    return [os.path.join(os.path.realpath(song.source.parent), song.source.name), os.path.realpath(song.source)]


def _key(path: str) -> str:
    """What two paths have in common that some file system takes for the same."""
    return unicodedata.normalize("NFC", path).casefold()


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{safe_name(name, MAX_NAME_BYTES - 10)} ({number})"
