"""The songs to evaluate on: where their true stems are, and how they are read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio import audio_suffixes, decode, probe, remix
from ..data.catalogue import STEM_STREAMS, STEM_SUFFIX, AudioFile, Song, discover
from ..errors import DataError
from .metrics import SAMPLE_RATE

STEMS = ("vocals", "instrumental")
LENGTH_TOLERANCE = SAMPLE_RATE


@dataclass(frozen=True)
class References:
    """A song with its true stems: float32 (channels, samples) each, at 44.1 kHz, mono or stereo, of one length."""

    mixture: np.ndarray
    vocals: np.ndarray
    instrumental: np.ndarray


def find_references(paths: Sequence[str | os.PathLike[str]]) -> list[Song]:
    """The songs with stems in folders (MUSDB18, MUSDB18-HQ, or one folder a song) and ``.stem.mp4`` files.

    A song needs two of ``vocals``, ``instrumental`` (or ``drums``, ``bass`` and ``other``) and ``mixture``.

    Raises:
        DataError: a path that is missing or holds no such song, two songs of one name.
    """
    songs: dict[str, Song] = {}
    for path in map(Path, paths):
        is_file = path.is_file()
        if is_file and not path.name.lower().endswith(STEM_SUFFIX):
            raise DataError(f"{path}: is no song with stems; give a .stem.mp4 file or a folder of songs with stems")
        found = discover({"songs": [path.parent if is_file else path]})
        if is_file:
            found = [song for song in found if song.files[0].path == path]
        for song in found:
            if song.name in songs:
                raise DataError(f"{path}: a song called {song.name!r} was found before; evaluate them separately")
            songs[song.name] = song
    return list(songs.values())


def mixture_of(song: Song) -> AudioFile | None:
    """The mixture beside the stems of a song; None where it is their sum."""
    if "mixture" in song.stems:
        return song.stems["mixture"][0]
    first = song.files[0].path
    if first.name.lower().endswith(STEM_SUFFIX):
        return AudioFile(first, STEM_STREAMS.index("mixture"))
    beside = (path for path in sorted(first.parent.iterdir()) if path.stem.lower() == "mixture")
    return next((AudioFile(path) for path in beside if path.suffix.lower() in audio_suffixes()), None)


def read_references(song: Song) -> References:
    """Decodes a song; other rates are resampled, more than two channels mixed down.

    Raises:
        AudioError: a file does not decode. DataError: stems and mixture are more than a second apart in length.
    """
    channels = min(2, max(probe(file.path, file.stream).channels for file in song.files))
    stems = {name: _read_sum(files, channels) for name, files in song.stems.items()}
    if (file := mixture_of(song)) is not None and "mixture" not in stems:
        stems["mixture"] = _read_sum((file,), channels)
    lengths = [stem.shape[1] for stem in stems.values()]
    if max(lengths) - min(lengths) > LENGTH_TOLERANCE:
        described = ", ".join(
            f"{name} {length / SAMPLE_RATE:.1f} s" for name, length in zip(stems, lengths, strict=True)
        )
        raise DataError(
            f"{song.files[0].path.parent}: its stems differ in length ({described}); they must belong together"
        )
    stems = {name: fit_length(stem, max(lengths)) for name, stem in stems.items()}
    if "mixture" not in stems:
        stems["mixture"] = stems["vocals"] + stems["instrumental"]
    for missing, other in (STEMS, STEMS[::-1]):
        if missing not in stems:
            stems[missing] = stems["mixture"] - stems[other]
    return References(**stems)


def read_at_rate(file: AudioFile, channels: int) -> np.ndarray:
    """A file as float32 (channels, samples) at 44.1 kHz."""
    return remix(decode(file.path, SAMPLE_RATE, stream=file.stream)[0], channels)


def fit_length(signal: np.ndarray, samples: int) -> np.ndarray:
    """Cut, or padded with zeros, to ``samples``."""
    return np.pad(signal[:, :samples], ((0, 0), (0, max(0, samples - signal.shape[1]))))


def _read_sum(files: Sequence[AudioFile], channels: int) -> np.ndarray:
    parts = [read_at_rate(file, channels) for file in files]
    samples = max(part.shape[1] for part in parts)
    return np.stack([fit_length(part, samples) for part in parts]).sum(axis=0)
