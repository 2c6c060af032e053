"""Systems to evaluate: models, ensembles, folders of stems from other tools, and baselines."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..audio import audio_suffixes
from ..data.catalogue import ACCOMPANIMENT, AudioFile, Song
from ..errors import DataError
from ..hub import CARDS, card_path
from ..separation import STEMS, SeparationOptions, Separator
from .metrics import SAMPLE_RATE
from .oracle import Oracle, oracle_vocals
from .songs import References, find_delay, fit_length, move_earlier, read_at_rate

# What other tools call the two stems, as the whole file name or after the song's (audio-separator writes
# ``song_(Vocals)_model.wav``, Demucs ``no_vocals.wav``, Spleeter ``accompaniment.wav``).
STEM_NAMES = {
    "vocals": ("vocals", "vocal"),
    "instrumental": ("instrumental", "accompaniment", "no_vocals", "karaoke"),
}
OTHER_STEMS = ("guitar", "piano")
AFTER_SONG = re.compile(
    rf"[_ .-]+\(?({'|'.join(sum(STEM_NAMES.values(), ()) + ACCOMPANIMENT + OTHER_STEMS)})\)?(?:[_ .-].*)?$"
)


@dataclass
class Estimates:
    """Separated stems of the shape of the references, and warnings about changes to them."""

    vocals: np.ndarray
    instrumental: np.ndarray
    warnings: list[str] = field(default_factory=list)


class System(Protocol):
    """Something that yields stems for a song. ``version`` changes when its stems for the song may have changed."""

    @property
    def name(self) -> str: ...

    def version(self, song: Song) -> Any: ...

    def estimate(self, song: Song, references: References) -> Estimates: ...


@dataclass(frozen=True)
class ModelSystem:
    """A model, or an ensemble of several, by names or paths."""

    options: SeparationOptions

    @property
    def name(self) -> str:
        return self.options.model_name

    def version(self, song: Song) -> Any:
        models = map(str, self.options.models)
        paths = [card_path(CARDS[model]) if model in CARDS else Path(model) for model in models]
        return [file_version(path) if path.is_file() else None for path in paths]

    def estimate(self, song: Song, references: References) -> Estimates:
        result = load_separator(self.options).separate(references.mixture, SAMPLE_RATE)
        return Estimates(result.vocals, result.instrumental, list(result.warnings))


@lru_cache(maxsize=1)  # models are large: one at a time
def load_separator(options: SeparationOptions) -> Separator:
    """Loads a separator and keeps the most recent one."""
    return Separator(options)


@dataclass(frozen=True)
class MixtureSystem:
    """The baseline that uses the unprocessed mixture as both stems."""

    name: str = "mixture"

    def version(self, song: Song) -> Any:
        return None

    def estimate(self, song: Song, references: References) -> Estimates:
        return Estimates(references.mixture, references.mixture)


@dataclass(frozen=True)
class OracleSystem:
    """An ideal mask on a spectrogram with windows of ``n_fft`` samples; the instrumental is the rest of the mixture."""

    name: Oracle
    n_fft: int
    hop_length: int

    def version(self, song: Song) -> Any:
        return [self.n_fft, self.hop_length]

    def estimate(self, song: Song, references: References) -> Estimates:
        vocals = oracle_vocals(
            self.name, references.mixture, references.vocals, references.instrumental, self.n_fft, self.hop_length
        )
        return Estimates(vocals, references.mixture - vocals)


@dataclass(frozen=True)
class FolderSystem:
    """Stems that some tool separated before, found below ``folder`` by the song's name and the stem's."""

    name: str
    folder: Path

    def version(self, song: Song) -> Any:
        files = find_stems(self.folder, song)
        return {stem: [file_version(path) for path in paths] for stem, paths in files.items()}

    def estimate(self, song: Song, references: References) -> Estimates:
        files = find_stems(self.folder, song)
        if not files:
            raise DataError(
                f"{self.folder}: has no stems of {song.name!r}; expected "
                f"{Path(song.name).name}/vocals.wav and instrumental.wav below it"
            )
        warnings: list[str] = []
        found = {stem: self._read(files[stem], stem, references, warnings) for stem in files}
        for missing, other in (STEMS, STEMS[::-1]):
            if missing not in found:
                found[missing] = references.mixture - found[other]
                warnings.append(f"{files[other][0]}: there is no {missing}, taken as the mixture minus {other}")
        return Estimates(found["vocals"], found["instrumental"], warnings)

    def _read(self, paths: list[Path], stem: str, references: References, warnings: list[str]) -> np.ndarray:
        channels, samples = references.mixture.shape
        total = np.zeros((channels, samples), np.float32)
        for path in paths:
            sound = read_at_rate(AudioFile(path), channels)
            difference = sound.shape[1] - samples
            if abs(difference) > SAMPLE_RATE:
                raise DataError(
                    f"{path}: is {sound.shape[1] / SAMPLE_RATE:.1f} s long, the song {samples / SAMPLE_RATE:.1f} s; "
                    "give the stem of the whole song"
                )
            if difference:
                delay = find_delay(getattr(references, stem), sound)
                warnings.append(
                    f"{path}: {abs(difference)} samples {'longer' if difference > 0 else 'shorter'} than the song"
                    + (f", moved by {-delay} samples to fit" if delay else ", fitted at its end")
                )
                sound = move_earlier(sound, delay)
            total += fit_length(sound, samples)
        return total


def file_version(path: Path) -> list[Any]:
    """Path, size and modification time of a file."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def find_stems(folder: Path, song: Song) -> dict[str, list[Path]]:
    """Finds the files of a song's two stems below ``folder``; several files are summed to one stem.

    The song may have its full name or the last part of it, and its stems a folder of that name or that name in front
    of theirs; tools that were given a ``mixture`` file or a ``.stem.mp4`` are understood too.
    """
    base = Path(song.name).name
    for name in dict.fromkeys((song.name, base, f"{song.name}.stem", f"{base}.stem")):
        for place in (folder / name, folder / name / "mixture"):
            if place.is_dir() and (stems := _stems_of({path.stem.lower(): path for path in _audio_in(place)})):
                return stems
    for front in (base, f"{base}.stem"):
        rests = {path.stem[len(front) :].lower(): path for path in _audio_in(folder) if path.stem.startswith(front)}
        matches = ((AFTER_SONG.match(rest), path) for rest, path in rests.items())
        if stems := _stems_of({match[1]: path for match, path in matches if match}):
            return stems
    return {}


def _audio_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in audio_suffixes() and path.is_file())


def _stems_of(named: Mapping[str, Path]) -> dict[str, list[Path]]:
    stems = {}
    for stem, names in STEM_NAMES.items():
        if found := next((named[name] for name in names if name in named), None):
            stems[stem] = [found]
    if "instrumental" not in stems and all(name in named for name in ACCOMPANIMENT):
        stems["instrumental"] = [named[name] for name in (*ACCOMPANIMENT, *OTHER_STEMS) if name in named]
    return stems
