"""An index of audio files: their properties, duplicates, and files that should not be trained on.

Loudness is the integrated loudness of ITU-R BS.1770-4. Near duplicates share landmarks (pairs of spectral peaks; Wang,
"An industrial-strength audio search algorithm", ISMIR 2003). The index stores a bottom-k sketch of them (Broder 1997).
"""

import hashlib
import json
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..audio import probe
from ..errors import AudioError, DataError, explain
from ..files import whole
from .catalogue import AudioFile, Song, split_of
from .reading import SAMPLE_RATE, read

logger = logging.getLogger(__name__)

INDEX_FORMAT = 1
SILENCE_DB = -60.0
VOCALS_THRESHOLD_DB = -20.0
SKETCH_SIZE = 256
NEAR_DUPLICATE_SHARE = 0.08
SAVE_EVERY = 50

VocalsDetector = Callable[[np.ndarray], float]
"""Takes float32 `(2, samples)` at 44.1 kHz; returns the level of vocals in it, in dB relative to the whole."""


@dataclass(frozen=True)
class FileRecord:
    """The properties of one file. From ``duration`` (seconds) on they are None if it cannot be decoded (``error``).

    ``sample_rate`` (Hz) and ``channels`` are the file's own. ``peak`` is in dB relative to full scale, ``loudness`` in
    LUFS; both are at least -120. ``content`` is a hash of the decoded audio, so tags and container do not matter.
    ``landmarks`` is the sketch for near duplicates. ``vocals_level`` was returned by the detector named ``detector``;
    both are None if no detector was used.
    """

    path: str
    stream: int
    size: int
    mtime_ns: int
    error: str | None = None
    duration: float | None = None
    sample_rate: int | None = None
    channels: int | None = None
    codec: str | None = None
    peak: float | None = None
    loudness: float | None = None
    content: str | None = None
    landmarks: tuple[int, ...] = ()
    vocals_level: float | None = None
    detector: str | None = None

    @property
    def file(self) -> AudioFile:
        return AudioFile(Path(self.path), self.stream)

    @property
    def silent(self) -> bool:
        """Whether the decoded audio never exceeds -60 dB."""
        return self.peak is not None and self.peak <= SILENCE_DB


@dataclass
class Index:
    """The records of a scan in the order of the files; ``read`` is how many were not taken from an earlier index."""

    records: list[FileRecord] = field(default_factory=list)
    read: int = field(default=0, compare=False)

    def failures(self) -> list[FileRecord]:
        """Files that cannot be decoded."""
        return [record for record in self.records if record.error]

    def silent(self) -> list[FileRecord]:
        """Files that contain only silence."""
        return [record for record in self.records if record.silent]

    def with_vocals(self, threshold: float = VOCALS_THRESHOLD_DB) -> list[FileRecord]:
        """Instrumentals in which the detector measured vocals above ``threshold`` dB."""
        return [
            record for record in self.records if record.vocals_level is not None and record.vocals_level > threshold
        ]

    def duplicates(self) -> list[list[FileRecord]]:
        """Groups of files with the same decoded audio."""
        groups = defaultdict(list)
        for record in self.records:
            if record.content and not record.silent:
                groups[record.content].append(record)
        return [group for group in groups.values() if len(group) > 1]

    def near_duplicates(self, share: float = NEAR_DUPLICATE_SHARE) -> list[list[FileRecord]]:
        """Groups of files that share at least ``share`` of their landmarks, including exact duplicates.

        These are the same music in other encodings, levels or edits, or a mixture and its instrumental.
        """
        holders = defaultdict(list)
        for number, record in enumerate(self.records):
            for landmark in record.landmarks:
                holders[landmark].append(number)
        # A landmark of very many files is a steady tone rather than music, and would give quadratically many pairs.
        common = Counter(
            pair for numbers in holders.values() if len(numbers) <= 50 for pair in combinations(numbers, 2)
        )
        parents = list(range(len(self.records)))

        def root(number: int) -> int:
            while parents[number] != number:
                number = parents[number]
            return number

        for (first, second), count in common.items():
            smaller = min(len(self.records[first].landmarks), len(self.records[second].landmarks))
            if count >= max(share * smaller, 3):
                parents[root(second)] = root(first)
        groups = defaultdict(list)
        for number, record in enumerate(self.records):
            groups[root(number)].append(record)
        return [group for group in groups.values() if len(group) > 1]

    def summary(self, songs: Iterable[Song], vocals_threshold: float = VOCALS_THRESHOLD_DB) -> dict[str, Any]:
        """A summary of the scan for JSON: counts and seconds of every role, and files to check.

        Keys: "files", "read", "roles" (role: "songs", "files", "seconds"), "failures" ("file", "error"), "silent",
        "duplicates" (groups of files), "near_duplicates" (groups of files of different songs, other than exact
        duplicates), "with_vocals" ("file", "level" in dB, the highest first).
        """
        songs = list(songs)
        records = {record.file: record for record in self.records}
        roles: dict[str, dict[str, float]] = {}
        songs_of = defaultdict(set)
        for song in songs:
            role = roles.setdefault(song.role, {"songs": 0, "files": 0, "seconds": 0.0})
            durations = [records[file].duration or 0.0 for file in song.files if file in records]
            role["songs"] += 1
            role["files"] += len(durations)
            role["seconds"] += max(durations, default=0.0)
            for file in song.files:
                songs_of[file].add(song.name)
        exact = self.duplicates()
        near = [
            group
            for group in self.near_duplicates()
            if group not in exact and len(set().union(*(songs_of[record.file] for record in group))) > 1
        ]
        loudest = sorted(self.with_vocals(vocals_threshold), key=lambda record: -(record.vocals_level or 0.0))
        return {
            "files": len(self.records),
            "read": self.read,
            "roles": roles,
            "failures": [{"file": str(record.file), "error": record.error} for record in self.failures()],
            "silent": [str(record.file) for record in self.silent()],
            "duplicates": [[str(record.file) for record in group] for group in exact],
            "near_duplicates": [[str(record.file) for record in group] for group in near],
            "with_vocals": [{"file": str(record.file), "level": record.vocals_level} for record in loudest],
        }

    def usable(self, songs: Iterable[Song]) -> tuple[list[Song], list[tuple[str, str]]]:
        """The songs to train on, and the names of excluded songs with the reason.

        Excluded are songs with a file that cannot be decoded, silent songs, and exact duplicates. Songs with near
        duplicates of each other's files get the same group, so that they are in the same split.
        """
        records = {record.file: record for record in self.records}
        songs = list(songs)
        group_of = self._groups(songs)
        used: dict[tuple[str, ...], str] = {}
        kept, left_out = [], []
        for song in songs:
            known = [records[file] for file in song.files if file in records]
            failure = next((record.error for record in known if record.error), None)
            contents = (song.role, *(record.content or "" for record in known))
            if failure:
                left_out.append((song.name, failure))
            elif known and all(record.silent for record in known):
                left_out.append((song.name, "holds only silence"))
            elif known and contents in used:
                left_out.append((song.name, f"is the same as {used[contents]}"))
            else:
                used[contents] = song.name
                kept.append(replace(song, group=group_of[song.name]))
        return kept, left_out

    def _groups(self, songs: list[Song]) -> dict[str, str]:
        """The group of every song, by name. Songs that share a near duplicate have the same group.

        If a song of a group is in a validation folder, the group is named after it, so that all its songs are validated
        on.
        """
        songs_of = defaultdict(list)
        for song in songs:
            for file in song.files:
                songs_of[file].append(song.name)
        alike = [[name for record in group for name in songs_of[record.file]] for group in self.near_duplicates()]
        groups = {song.name: song.group for song in songs}
        for names in alike:
            merged = {groups[name] for name in names}
            chosen = min(merged, key=lambda group: (split_of(group, 0.0) != "validation", group), default="")
            groups = {name: chosen if group in merged else group for name, group in groups.items()}
        return groups


def scan(
    songs: Iterable[Song],
    index_path: Path,
    detect_vocals: VocalsDetector | None = None,
    detector: str = "",
    progress: Callable[[int, int, str], None] | None = None,
    workers: int = 1,
) -> Index:
    """Reads the new and changed files of ``songs`` and writes an index of all files to ``index_path``.

    The index (JSON) is saved regularly, so that an interrupted scan can be resumed. Deleted files are removed from it.
    ``detect_vocals`` is called for instrumentals only, and again if the name of the ``detector`` has changed.
    ``progress(done, total, name)`` is called after every file. Raises DataError if the index cannot be read or written.
    """
    known = {record.file: record for record in read_index(index_path).records} if index_path.exists() else {}
    roles = {file: song.role for song in songs for file in song.files}
    records: dict[AudioFile, FileRecord] = {}
    _write_index(index_path, known.values())  # fail before hours of reading if the path cannot be written

    def examine_one(file: AudioFile) -> FileRecord:
        detect = detect_vocals if roles[file] == "instrumentals" else None
        old = known.get(file)
        if old and _unchanged(old) and (detect is None or old.error or old.detector == detector):
            return old
        record = examine(file, detect)
        return record if record.vocals_level is None else replace(record, detector=detector)

    pool = ThreadPoolExecutor(workers)
    try:
        futures = {pool.submit(examine_one, file): file for file in roles}
        for number, future in enumerate(as_completed(futures), 1):
            file = futures[future]
            records[file] = future.result()
            if progress:
                progress(number, len(roles), str(file.path))
            if number % SAVE_EVERY == 0:
                _write_index(index_path, {**known, **records}.values())
    except BaseException:  # also on Ctrl-C: keep what was read and do not start further files
        pool.shutdown(cancel_futures=True)
        _write_index(index_path, {**known, **records}.values())
        raise
    pool.shutdown()
    read = sum(record is not known.get(file) for file, record in records.items())
    index = Index([records[file] for file in roles], read)
    _write_index(index_path, index.records)
    return index


def examine(file: AudioFile, detect_vocals: VocalsDetector | None = None) -> FileRecord:
    """Reads one file. If that fails, the reason is in the ``error`` of the record."""
    try:
        status = file.path.stat()
    except OSError as error:
        return FileRecord(str(file.path), file.stream, 0, 0, f"{file.path}: cannot be read ({error.strerror})")
    record = FileRecord(str(file.path), file.stream, status.st_size, status.st_mtime_ns)
    try:
        info = probe(file.path, file.stream)
        sound = read(file)
        return replace(
            record,
            duration=sound.shape[1] / SAMPLE_RATE,
            sample_rate=info.sample_rate,
            channels=info.channels,
            codec=info.codec,
            peak=_decibels(float(np.abs(sound).max())),
            loudness=integrated_loudness(sound),
            content=hashlib.blake2b(np.rint(sound * 32767).astype("<i4").tobytes(), digest_size=16).hexdigest(),
            landmarks=landmark_sketch(sound),
            vocals_level=detect_vocals(sound) if detect_vocals else None,
        )
    except AudioError as error:
        return replace(record, error=str(error))
    except Exception as error:
        logger.info("%s failed", file.path, exc_info=True)
        return replace(record, error=explain(error, file.path, "fewer files at once (-j)"))


def read_index(path: Path) -> Index:
    """Reads what `scan` wrote. Raises DataError if the file is missing, damaged or not an index."""
    try:
        content = json.loads(path.read_text())
        if content["format"] != INDEX_FORMAT:
            raise ValueError("another format")
        return Index([FileRecord(**fields | {"landmarks": tuple(fields["landmarks"])}) for fields in content["files"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no readable index ({error}); delete it and run `data scan` again") from error


def _write_index(path: Path, records: Iterable[FileRecord]) -> None:
    lines = ",\n".join(json.dumps(asdict(record)) for record in records)
    try:
        with whole(path) as temporary:
            temporary.write_text(f'{{"format": {INDEX_FORMAT}, "files": [\n{lines}\n]}}\n')
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def _unchanged(record: FileRecord) -> bool:
    try:
        status = os.stat(record.path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (record.size, record.mtime_ns)


def _decibels(amplitude: float) -> float:
    return 20 * math.log10(max(amplitude, 1e-6))


def integrated_loudness(sound: np.ndarray) -> float:
    """Loudness in LUFS of float32 `(2, samples)` at 44.1 kHz; -120 for silence or audio shorter than 0.4 s.

    As in ITU-R BS.1770-4, the K-weighted power of 0.4 s blocks every 0.1 s is gated at -70 LUFS and at 10 LU below the
    mean. The weighting is applied to the spectrum of every 0.1 s; the difference is below 0.1 LU.
    """
    step = SAMPLE_RATE // 10
    count = sound.shape[1] // step
    if count < 4:
        return -120.0
    spectrum = np.fft.rfft(sound[:, : count * step].reshape(2, count, step))
    power = (np.abs(spectrum) ** 2 * _k_weighting(np.fft.rfftfreq(step, 1 / SAMPLE_RATE))).sum(axis=(0, 2))
    power *= 2 / step**2
    blocks = np.convolve(power, np.ones(4) / 4, mode="valid")
    blocks = blocks[blocks > 10 ** ((0.691 - 70) / 10)]
    if not len(blocks):
        return -120.0
    blocks = blocks[blocks > blocks.mean() / 10]
    return -0.691 + 10 * math.log10(blocks.mean())


def _k_weighting(frequencies: np.ndarray) -> np.ndarray:
    """Power response of the two filters of BS.1770-4 (tables 1 and 2, at 48 kHz)."""
    delay = np.exp(-2j * np.pi * frequencies / 48000)
    shelf = (1.53512485958697 - 2.69169618940638 * delay + 1.19839281085285 * delay**2) / (
        1 - 1.69065929318241 * delay + 0.73248077421585 * delay**2
    )
    high_pass = (1 - 2 * delay + delay**2) / (1 - 1.99004745483398 * delay + 0.99007225036621 * delay**2)
    return np.abs(shelf * high_pass) ** 2


def landmark_sketch(sound: np.ndarray) -> tuple[int, ...]:
    """The smallest `SKETCH_SIZE` hashes of the landmarks of `(2, samples)`, sorted; similar for similar music.

    A landmark is a pair of spectrogram peaks (a peak and one of the next three): both frequencies and the time between
    them, quantised coarsely enough not to change with the encoding, level or start of the file.
    """
    mono = torch.from_numpy(sound.mean(axis=0))
    if len(mono) < 4096:
        return ()
    spectrum = torch.stft(mono, 4096, 1024, window=torch.hann_window(4096), return_complex=True)[10:480].abs()
    local = functional.max_pool1d(spectrum, 31, stride=1, padding=15)
    local = functional.max_pool1d(local.T, 31, stride=1, padding=15).T
    peaks = ((spectrum == local) & (spectrum > 1e-3 * spectrum.max())).T.nonzero().numpy()
    hashes = set()
    for later in (1, 2, 3):
        pairs = np.concatenate([peaks[:-later], peaks[later:]], axis=1)
        for time, low, next_time, high in pairs.tolist():
            if 0 < next_time - time < 90:
                key = f"{low} {high} {(next_time - time) // 2}".encode()
                hashes.add(int.from_bytes(hashlib.blake2b(key, digest_size=6).digest()))
    return tuple(sorted(hashes)[:SKETCH_SIZE])
