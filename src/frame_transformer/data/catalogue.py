"""Finding songs, their stems and their split, without decoding anything."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..audio import audio_suffixes
from ..errors import DataError

STEM_SUFFIX = ".stem.mp4"
STEM_STREAMS = ("mixture", "drums", "bass", "other", "vocals")
SPLIT_FOLDERS = ("train", "test", "validation")
ACCOMPANIMENT = ("drums", "bass", "other")

Role = Literal["instrumentals", "vocals", "songs", "unlabelled"]
ROLES: tuple[Role, ...] = ("instrumentals", "vocals", "songs", "unlabelled")
FOLDER_ROLES: dict[str, Role] = {
    **{role: role for role in ROLES},
    "stems": "songs",
    "pairs": "songs",
    "music": "unlabelled",
}
Split = Literal["train", "validation"]


@dataclass(frozen=True)
class AudioFile:
    """An audio file, or the audio stream ``stream`` (from 0) of a file with several stems."""

    path: Path
    stream: int = 0

    def __str__(self) -> str:
        return f"{self.path} (stream {self.stream})" if self.stream else str(self.path)


@dataclass(frozen=True)
class Song:
    """A song before decoding.

    ``stems`` maps "instrumental", "vocals", "mixture" or "music" (unlabelled) to the files that add up to it. A song of
    the role "songs" has two of the first three; if one is the mixture, the missing stem is the difference. Songs with
    the same ``group`` are always in the same split. It is the name, unless a scan finds the same music twice.
    """

    name: str
    role: Role
    stems: dict[str, tuple[AudioFile, ...]] = field(hash=False)
    group: str = ""

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.name)

    @property
    def files(self) -> list[AudioFile]:
        """All files of the song, in the order of its stems."""
        return [file for files in self.stems.values() for file in files]


def split_of(group: str, validation_share: float = 0.05, seed: int = 0) -> Split:
    """The split of a song. It depends only on the name of its group, so it is the same on every machine.

    Songs in a folder "validation" or "test" (as in MUSDB18) are never trained on; songs in "train" always are.
    """
    top = group.split("/")[0].lower()
    if top in ("validation", "test"):
        return "validation"
    digest = hashlib.blake2b(f"{seed}/{group}".encode(errors="surrogateescape"), digest_size=8).digest()
    return "validation" if top != "train" and int.from_bytes(digest) < validation_share * 2**64 else "train"


def top_folder(name: str) -> str:
    """The first folder of a song's name after any `SPLIT_FOLDERS` and `FOLDER_ROLES`, or the name without them."""
    parts = name.split("/")
    while len(parts) > 1 and parts[0].lower() in (*SPLIT_FOLDERS, *FOLDER_ROLES):
        del parts[0]
    return parts[0]


def audio_files(folder: Path) -> list[Path]:
    """All audio files below ``folder`` (by suffix, without hidden ones), sorted. Linked folders are followed.

    Raises DataError if the folder is missing or unreadable.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of audio files")
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error

    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above, or a second way to the same songs
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in audio_suffixes()
        ]
    return sorted(found)


def roles_in(folder: Path) -> dict[Role, list[Path]]:
    """The roles of a data folder's subfolders by their names (`FOLDER_ROLES`), also inside `SPLIT_FOLDERS`.

    Other folders with stems have the role "songs". If there are neither, everything is unlabelled music. Raises
    DataError if the folder is missing, unreadable or without audio files.
    """
    paths = audio_files(folder)
    if not paths:
        raise DataError(f"{folder}: holds no audio files")
    roles: dict[Role, list[Path]] = {}
    known = {path.relative_to(folder).parts[0] for path in paths if path.parent != folder}
    for name in sorted(known):
        if name.lower() in FOLDER_ROLES:
            roles.setdefault(FOLDER_ROLES[name.lower()], []).append(folder / name)
        elif name.lower() in SPLIT_FOLDERS:
            for role, folders in roles_in(folder / name).items():
                roles.setdefault(role, []).extend(folders)
        else:
            continue
        paths = [path for path in paths if folder / name not in path.parents]
    if _songs_with_stems(folder, paths):
        roles["songs"] = [folder]  # includes the song folders further down
    return roles or {"unlabelled": [folder]}


def gather(folders: Iterable[Path], roles: Mapping[Role, Iterable[Path]]) -> list[Song]:
    """The songs in data folders (see `roles_in`) and in folders of given roles.

    Raises DataError if no folder is given, and as `roles_in` and `discover`.
    """
    merged: dict[Role, dict[Path, None]] = {role: dict.fromkeys(map(Path, roles.get(role, ()))) for role in ROLES}
    for folder in folders:
        for role, found in roles_in(folder).items():
            merged[role].update(dict.fromkeys(found))
    if not any(merged.values()):
        raise DataError("no folder given; name a folder of data, or one for a role (see --help)")
    return discover(merged)


def discover(folders: Mapping[Role, Iterable[Path]]) -> list[Song]:
    """The songs in folders of known roles, sorted by role and name.

    In "instrumentals", "vocals" and "unlabelled" folders every file is a song. In "songs" folders every folder with
    stems is a song: ``vocals`` with ``instrumental`` or with ``drums``, ``bass`` and ``other`` (MUSDB18-HQ), or
    ``mixture`` with ``instrumental`` or ``vocals`` (the missing stem is the difference). Every ``.stem.mp4`` (MUSDB18:
    streams mixture, drums, bass, other, vocals) is a song, too.

    Raises DataError if a folder is missing, unreadable or without songs of its role.
    """
    songs = []
    for role in ROLES:
        for folder in map(Path, folders.get(role, ())):
            paths = audio_files(folder)
            if not paths:
                raise DataError(f"{folder}: holds no audio files")
            top = _above_split(folder)
            if role == "songs":
                found = _songs_with_stems(top, paths)
                if not found:
                    raise DataError(
                        f"{folder}: holds no songs with stems; a song is a .stem.mp4, or a folder of files named "
                        "vocals, instrumental (or drums, bass and other), mixture"
                    )
                songs += found
            else:
                stem = {"instrumentals": "instrumental", "vocals": "vocals", "unlabelled": "music"}[role]
                songs += [
                    Song(path.relative_to(top).with_suffix("").as_posix(), role, {stem: (AudioFile(path),)})
                    for path in paths
                ]
    return songs


def _above_split(folder: Path) -> Path:
    """The folder that names are relative to; a folder "validation" or "test" remains part of the names."""
    return next((parent.parent for parent in (folder, folder.parent) if parent.name.lower() in SPLIT_FOLDERS), folder)


def _songs_with_stems(folder: Path, paths: list[Path]) -> list[Song]:
    songs = []
    by_parent: dict[Path, dict[str, AudioFile]] = {}
    for path in paths:
        if path.name.lower().endswith(STEM_SUFFIX):
            name = path.relative_to(folder).as_posix()[: -len(STEM_SUFFIX)]
            parts = {stem: AudioFile(path, stream) for stream, stem in enumerate(STEM_STREAMS)}
            songs.append(Song(name, "songs", _stems_of(parts)))
        else:
            by_parent.setdefault(path.parent, {})[path.stem.lower()] = AudioFile(path)
    for parent, parts in by_parent.items():
        if stems := _stems_of(parts):
            name = parent.name if parent == folder else parent.relative_to(folder).as_posix()
            songs.append(Song(name, "songs", stems))
    return songs


def _stems_of(parts: Mapping[str, AudioFile]) -> dict[str, tuple[AudioFile, ...]]:
    """Selects the two stems to decode from a song's files by name; empty if they do not determine both stems."""
    stems: dict[str, tuple[AudioFile, ...]] = {}
    if "instrumental" in parts:
        stems["instrumental"] = (parts["instrumental"],)
    elif all(name in parts for name in ACCOMPANIMENT):
        stems["instrumental"] = tuple(parts[name] for name in ACCOMPANIMENT)
    if "vocals" in parts:
        stems["vocals"] = (parts["vocals"],)
    if len(stems) == 1 and "mixture" in parts:
        stems["mixture"] = (parts["mixture"],)
    return stems if len(stems) == 2 else {}
