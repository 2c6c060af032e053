"""Prepared songs: decoded once to 44.1 kHz stereo int16, so that reading a crop is one contiguous copy.

Each song has a folder `<role>/<name>-<digest>/`:

    song.json               name, role, group, number of samples, gain applied, bandwidth of each stem, sources with
                            size and time of change
    <stem>.npy              int16, C order `(samples, 2)`; full scale is 32768
    <stem>.rms.npy          float32 `(seconds,)`: RMS of every second, full scale is 1

`song.json` is written last, so a folder without it is incomplete and is written again.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock

from ..errors import AudioError, DataError, explain
from ..files import whole
from .catalogue import ROLES, AudioFile, Role, Song, top_folder
from .reading import SAMPLE_RATE, read

logger = logging.getLogger(__name__)

FULL_SCALE = 32768


@dataclass
class PrepareReport:
    """The result of `prepare`: names of prepared and up-to-date songs, and of skipped songs with the reason."""

    prepared: list[str] = field(default_factory=list)
    up_to_date: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class PreparedSong:
    """A prepared song.

    ``stems`` lists the available stems: "instrumental", "vocals" or "music". ``bandwidth`` is the frequency (Hz) above
    which each of them is empty.
    """

    name: str
    role: Role
    samples: int
    folder: Path
    stems: tuple[str, ...]
    group: str
    bandwidth: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return self.samples / SAMPLE_RATE

    @property
    def singer(self) -> str:
        """The top folder of the song within its role, which stands for a singer."""
        return top_folder(self.name)

    def crop(self, stem: str, start: int, samples: int) -> np.ndarray:
        """Samples ``start`` to ``start + samples`` as int16 `(samples, 2)`; zeros before the start and after the end.

        Raises DataError if the file was deleted.
        """
        stored = _open(self.folder / f"{stem}.npy")
        low, high = max(start, 0), min(start + samples, self.samples)
        if high - low == samples:
            return np.array(stored[low:high])
        crop = np.zeros((samples, 2), dtype=np.int16)
        if high > low:
            crop[low - start : high - start] = stored[low:high]
        return crop

    def rms(self, stem: str) -> np.ndarray:
        """RMS of every second, float32 `(seconds,)`, full scale is 1; the last second may be incomplete.

        Raises DataError if the file was deleted.
        """
        return _load(self.folder / f"{stem}.rms.npy")


# A memory map keeps a file descriptor open, and a process is often limited to 1024.
@lru_cache(maxsize=256)
def _open(path: Path) -> np.ndarray:
    return _load(path, "r")


def _load(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    try:
        return np.load(path, mmap_mode)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: prepared audio is missing or damaged; run `data prepare` again") from error


def prepare(
    songs: Iterable[Song],
    output: Path,
    progress: Callable[[int, int, str], None] | None = None,
) -> PrepareReport:
    """Decodes songs and writes them below ``output``; songs that are there and unchanged are not written again.

    Songs that cannot be decoded or were deleted are skipped and reported. If a stem would clip, all stems of the song
    are attenuated by the same gain. Shorter stems are padded with zeros.
    ``progress(done, total, name)`` is called after every song. Raises DataError if ``output`` cannot be written.
    """
    songs = list(songs)
    report = PrepareReport()
    try:
        output.mkdir(parents=True, exist_ok=True)
        # Several machines may prepare the same songs into one shared folder; the second finds them prepared.
        with FileLock(output / ".lock"):
            for number, song in enumerate(songs, 1):
                try:
                    made = _prepare_song(song, output)
                    (report.prepared if made else report.up_to_date).append(song.name)
                except (AudioError, DataError) as error:
                    report.skipped.append((song.name, str(error)))
                except OSError:
                    raise
                except Exception as error:
                    logger.info("%s failed", song.name, exc_info=True)
                    report.skipped.append((song.name, explain(error, song.name, "a shorter song")))
                if progress:
                    progress(number, len(songs), song.name)
    except OSError as error:
        raise DataError(
            f"{output}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    return report


def prepared_folder(song: Song, output: Path) -> Path:
    """The folder of a prepared song. Songs with the same name but different files have different folders."""
    files = "\n".join(f"{stem} {file.path.resolve()} {file.stream}" for stem in song.stems for file in song.stems[stem])
    digest = hashlib.blake2b(files.encode(errors="surrogateescape"), digest_size=6).hexdigest()
    readable = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in song.name)
    return output / song.role / f"{readable[:80].strip('.')}-{digest}"


def _prepare_song(song: Song, output: Path) -> bool:
    folder = prepared_folder(song, output)
    sources = [_source(file) for file in song.files]
    description = folder / "song.json"
    if description.exists():
        fields = json.loads(description.read_text())
        if fields["sources"] == sources:
            if fields["group"] != song.group:
                _write_json(description, fields | {"group": song.group})
            return False
    stems = _decode_stems(song)
    samples = max(stem.shape[1] for stem in stems.values())
    peak = max(float(np.abs(stem).max()) for stem in stems.values())
    gain = min(1.0, (FULL_SCALE - 1) / FULL_SCALE / max(peak, 1e-9))
    fields = {
        "name": song.name, "role": song.role, "group": song.group, "samples": samples, "gain": gain,
        "stems": list(stems), "bandwidth": {}, "sources": sources,
    }  # fmt: skip
    with whole(folder) as temporary:
        temporary.mkdir()
        for name, stem in stems.items():
            stored = np.zeros((samples, 2), dtype=np.int16)
            np.rint(stem.T * (gain * FULL_SCALE), out=stored[: stem.shape[1]], casting="unsafe")
            np.save(temporary / f"{name}.npy", stored)
            np.save(temporary / f"{name}.rms.npy", rms_per_second(stored))
            fields["bandwidth"][name] = bandwidth(stored)
        _write_json(temporary / "song.json", fields)
    return True


def _write_json(path: Path, content: dict) -> None:
    with whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _source(file: AudioFile) -> dict:
    try:
        status = file.path.stat()
    except OSError as error:
        raise DataError(f"{file.path}: was deleted or became unreadable ({error.strerror})") from error
    path = str(file.path.resolve())
    return {"path": path, "stream": file.stream, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _decode_stems(song: Song) -> dict[str, np.ndarray]:
    stems = {name: _sum([read(file) for file in files]) for name, files in song.stems.items()}
    if "mixture" in stems:
        mixture = stems.pop("mixture")
        known = next(iter(stems))
        stems["vocals" if known == "instrumental" else "instrumental"] = _sum([mixture, -stems[known]])
    return stems


def _sum(stems: list[np.ndarray]) -> np.ndarray:
    total = np.zeros((2, max(stem.shape[1] for stem in stems)), dtype=np.float32)
    for stem in stems:
        total[:, : stem.shape[1]] += stem
    return total


def rms_per_second(samples: np.ndarray) -> np.ndarray:
    """RMS of every second of int16 `(samples, 2)` at 44.1 kHz: float32 `(seconds,)`, full scale is 1."""
    starts = range(0, len(samples), SAMPLE_RATE)
    seconds = (samples[start : start + SAMPLE_RATE].astype(np.float32) / FULL_SCALE for start in starts)
    return np.array([np.sqrt(np.mean(second**2)) for second in seconds], dtype=np.float32)


def bandwidth(samples: np.ndarray) -> float:
    """The frequency (Hz) where the spectrum of int16 `(samples, 2)` at 44.1 kHz ends; 22050 if it does not.

    The spectrum ends where it falls by more than 20 dB within 1.5 kHz and stays below -80 dB of the strongest bin, as
    after a low sample rate or bit rate. Audio with little treble falls more slowly.
    """
    size, nyquist = 4096, SAMPLE_RATE / 2
    starts = np.linspace(0, max(len(samples) - size, 0), 1000).astype(int)
    frames = np.stack([np.resize(samples[start : start + size].mean(axis=1), size) for start in np.unique(starts)])
    energy = np.square(frames).mean(axis=1)
    frames = frames[energy >= np.median(energy[energy > 0])] if energy.any() else frames[:0]
    if not len(frames):
        return nyquist
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(size)))).mean(axis=0)
    smooth = 24
    level = 10 * np.log10(np.convolve(power, np.ones(smooth) / smooth, mode="same") / power.max() + 1e-12)
    last = int(np.flatnonzero(level > -80).max()) - smooth // 2
    step = round(750 / SAMPLE_RATE * size)
    if last + step >= len(level) or level[last - step] - level[last + step] < 20:
        return nyquist
    return round(last * SAMPLE_RATE / size, 1)


def read_prepared(folder: Path) -> list[PreparedSong]:
    """The complete songs below a folder that `prepare` wrote, sorted by role and name.

    Raises DataError if the folder is missing or contains no prepared song, or a song's description is damaged.
    """
    songs = sorted(_read_songs(folder), key=lambda song: (ROLES.index(song.role), song.name, song.folder.name))
    if not songs:
        raise DataError(f"{folder}: holds no prepared songs; run `frame-transformer data prepare` first")
    return songs


def _read_songs(folder: Path) -> Iterator[PreparedSong]:
    for path in folder.glob("*/*/song.json"):
        if path.parent.name.startswith("."):
            continue
        try:
            fields = json.loads(path.read_text())
            song = PreparedSong(
                name=fields["name"],
                role=fields["role"],
                samples=fields["samples"],
                folder=path.parent,
                stems=tuple(fields["stems"]),
                group=fields["group"],
                bandwidth=fields["bandwidth"],
            )
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}: damaged or of an older version; delete its folder and prepare again") from error
        yield song
