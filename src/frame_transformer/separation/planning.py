"""Planning a batch: the paths of all stems, and which of them exist already."""

import functools
import itertools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePath
from typing import Any

from torch import nn

from ..checkpoints import weights_digest
from .naming import fill_template, numbered
from .options import Model, OutputOptions, SeparationOptions
from .records import OutputFolder, Record, digest
from .songs import Song


@dataclass(frozen=True)
class PlannedSong:
    """A song, the record of its planned separation, and the name of the record's file.

    ``replaced`` are the records of stems that will be overwritten. ``is_done`` is true if all stems exist already.
    ``error`` is the reason why the song cannot be separated.
    """

    song: Song
    record: Record
    record_name: str = ""
    replaced: tuple[str, ...] = ()
    is_done: bool = False
    error: str | None = None

    def places(self, root: Path) -> dict[str, Path]:
        """The files to write, by name, in an output folder."""
        return {name: root / path for name, path in self.record.outputs.items()}


def plan_songs(
    songs: Sequence[Song], separation: SeparationOptions, output: OutputOptions, folder: OutputFolder
) -> list[PlannedSong]:
    """Plans where the stems of each song are written below ``output.folder``.

    A song is done if a record has the same file (by name, size and modification time), weights and options, and all
    outputs exist. Stems never overwrite inputs, stems of other songs, or stems of another model with the same name. To
    avoid that, the path gets the folder of the song, or a number is added to the name of the song or the model.
    """
    planner = _Planner(songs, separation, output, folder)
    number = 1
    while True:
        try:
            return planner.plan(numbered(separation.model_name, number))
        except _OtherModelError:
            number += 1


class _OtherModelError(Exception):
    """The stems of another model of the same name are in the way."""


class _Planner:
    def __init__(
        self, songs: Sequence[Song], separation: SeparationOptions, output: OutputOptions, folder: OutputFolder
    ):
        self.songs, self.output, self.folder = songs, output, folder
        self.models = tuple(map(_model_source, separation.models))
        self.weights = tuple(map(weights_digest, separation.models))
        # Other options change only the last bits, or the names of the outputs.
        self.options = _values(separation, {"models", "device", "batch_size"})
        self.options |= _values(output, {"folder", "filename", "stems", "overwrite", "images", "video"})
        self.records: dict[str, list[str]] = defaultdict(list)
        for name in folder.record_names():
            self.records[name.partition("-")[0]].append(name)
        self.read = functools.cache(folder.read_record)
        self.inputs = {_key(place): song for song in songs for place in _places(song)}

    def plan(self, model: str) -> list[PlannedSong]:
        taken: dict[str, Song] = {}
        return [self._plan_song(song, model, taken) for song in self.songs]

    def _plan_song(self, song: Song, model: str, taken: dict[str, Song]) -> PlannedSong:
        template, numbers = self.output.filename, itertools.count(2)
        folder, track = song.folder, song.file.stem
        while True:
            outputs = self.output.outputs(model, track, folder)
            place = fill_template(template, model, folder, track, "", "")
            source = song.source if isinstance(song.source, str) else os.path.abspath(song.source)
            record = Record(source, song.version, self.models, self.weights, self.options, outputs)
            name = record.file_name(place)
            keys = [_key(self.folder.address(path)) for path in outputs.values()]
            former = self._former(place, name, record)
            others = [known[key].source for known in (self.inputs, taken) for key in keys if key in known]
            others += [other.source for other in former.values() if not record.is_same_song(other)]
            if not others:
                if "{model}" in template and not all(map(record.is_same_model, former.values())):
                    raise _OtherModelError
                taken.update(dict.fromkeys(keys, song))
                written = set(outputs.values())
                replaced = tuple(other for other in former if written & set(former[other].outputs.values()))
                is_done = name in former and all(map(self.folder.has, outputs.values()))
                return PlannedSong(song, record, name, replaced, is_done and not self.output.overwrite)
            same_name = PurePath(others[0]).name == song.file.name
            if same_name and not folder and song.file.parent.name and "{folder}" in template:
                folder = song.file.parent.name
            elif "{track}" in template:
                track = numbered(song.file.stem, next(numbers))
            else:
                error = f"{song.source}: its stems would overwrite {others[0]}; the file name template needs {{track}}"
                return PlannedSong(song, record, error=error)

    def _former(self, place: str, name: str, record: Record) -> dict[str, Record]:
        """The records of a place of which any file is left; where one is called ``name``, it is ``record`` itself."""
        names = self.records[digest(place)]
        read = {name: record} if name in names else {other: self.read(other) for other in names}
        found = {other: former for other, former in read.items() if former is not None}
        return {other: former for other, former in found.items() if any(map(self.folder.has, former.outputs.values()))}


def _values(options: SeparationOptions | OutputOptions, without: set[str]) -> dict[str, Any]:
    names = [field.name for field in fields(options) if field.name not in without]
    return {name: getattr(options, name) for name in names}


def _model_source(model: Model) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return os.path.abspath(model) if os.path.isfile(model) else str(model)


def _places(song: Song) -> list[str]:
    """Where a song lies, by its own name and by that which links lead to."""
    if isinstance(song.source, str):
        return [song.source]
    return [os.path.join(os.path.realpath(song.source.parent), song.source.name), os.path.realpath(song.source)]


def _key(path: str) -> str:
    """A key that is equal for paths that some file systems do not distinguish."""
    return unicodedata.normalize("NFC", path).casefold()
