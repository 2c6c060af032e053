"""Random crops of prepared songs. The DataLoader only reads them; VoxAug mixes and augments whole batches.

Crops are numbered consecutively through all epochs, and a crop is a pure function of (seed, number). `crop_numbers`
distributes the numbers over ranks, and the DataLoader distributes those of a rank over workers. So no two ranks,
workers or epochs draw the same crop, and the crops do not depend on the number of ranks and workers.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import compress
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import DataError
from .prepared import FULL_SCALE, PreparedSong
from .reading import SAMPLE_RATE

logger = logging.getLogger(__name__)

KINDS = ("no_vocals", "only_vocals", "same_song", "teacher", "mix")
MOST_BACKING = 2


@dataclass(frozen=True)
class CropConfig:
    """How crops are drawn. Shares are fractions of all crops; the remaining crops are mixes of two different songs.

    Seconds more than ``active_level_db`` below the song's loud passages count as silence. A share ``active_share`` of
    the crops contains a second that is not silent; the others are taken from anywhere. A share ``backing`` of the mixes
    of two songs has one more singer in the background, and a third of these has two.

    A share ``teacher`` is drawn from songs whose stems were separated by another model, whose names (see below)
    ``teacher_songs`` match. They are used in no other way: both stems together, at the song's own balance and without
    effects on a single stem, so that the network sees what the teacher saw and its artefacts do not give voices away.

    All singers (`PreparedSong.singer`) are drawn equally often, and instrumentals in proportion to their length.
    ``weights`` and ``bandwidths`` map patterns of "role/name" (see `fnmatch`; the first match applies), such as
    ``{"vocals/chant-*": 0.2}``. A weight multiplies how often a singer or an instrumental is drawn. A bandwidth (Hz)
    replaces the measured one if it is lower.
    """

    no_vocals: float = 0.08
    only_vocals: float = 0.04
    same_song: float = 0.25
    active_share: float = 0.9
    active_level_db: float = -20.0
    backing: float = 0.2
    teacher: float = 0.0
    teacher_songs: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    bandwidths: dict[str, float] = field(default_factory=dict)


class Crop(TypedDict):
    """One item of `CropDataset`; the default collation stacks its tensors along a new first axis.

    ``instrumental`` and ``vocals`` are int16 `(2, samples)`, all zeros if the crop has none. ``level_gap`` is the level
    (dB) of the instrumental's song relative to the vocals' song at loud passages, 0 unless two songs are mixed.
    ``aligned`` is true if both come from the same position of one song, and ``teacher`` if another model separated
    them. ``seed`` determines the augmentation.

    ``backing``, int16 `(2, 2, samples)`, contains ``singers`` - 1 further voices and zeros. ``backing_gap`` `(2,)` is
    the level (dB) of the first singer's song relative to each of theirs. ``bandwidth`` `(4,)` is the frequency (Hz)
    above which the instrumental, the vocals and each backing voice are empty; the Nyquist frequency if they are absent.
    """

    instrumental: torch.Tensor
    vocals: torch.Tensor
    backing: torch.Tensor
    singers: int
    bandwidth: torch.Tensor
    level_gap: torch.Tensor
    backing_gap: torch.Tensor
    aligned: bool
    teacher: bool
    seed: int
    songs: str


class CropDataset(Dataset[Crop]):
    """Crops of instrumentals and vocals to be mixed."""

    def __init__(
        self,
        songs: Sequence[PreparedSong],
        samples: int,
        config: CropConfig = CropConfig(),
        seed: int = 0,
    ) -> None:
        """``samples`` is the length of crops, which may exceed that of mixes (see `VoxAug.read_samples`).

        Raises DataError if there are no instrumentals or no vocals.
        """
        self.samples, self.config, self.seed = samples, config, seed
        by_teacher = [any(_matches(song, pattern) for pattern in config.teacher_songs) for song in songs]
        true = [song for song, separated in zip(songs, by_teacher, strict=True) if not separated]
        self.instrumentals = _Pool(true, "instrumental", config)
        self.vocals = _Pool(true, "vocals", config)
        self.teacher = _Pool(list(compress(songs, by_teacher)), "vocals", config)
        self.whole = [number for number, song in enumerate(self.vocals.songs) if "instrumental" in song.stems]
        if not self.instrumentals.songs:
            raise DataError("there are no instrumentals to train on; add a folder of instrumentals or songs with stems")
        if not self.vocals.songs:
            raise DataError("there are no vocals to train on; add a folder of vocals or of songs with stems")
        if config.teacher and not self.teacher.songs:
            logger.warning("no songs match teacher_songs (%s): mixes take their share", ", ".join(config.teacher_songs))

    def __getitem__(self, index: int) -> Crop:
        random, config = np.random.default_rng([self.seed, index]), self.config
        shares = np.cumsum([config.no_vocals, config.only_vocals, config.same_song, config.teacher])
        kind = KINDS[np.searchsorted(shares, random.random(), side="right")]
        instrumental = vocals = None
        backing: list[_Place] = []
        level_gap, aligned, teacher = 0.0, False, False
        if kind == "no_vocals":
            instrumental = self.instrumentals.draw(random, self.samples)
        elif kind == "only_vocals":
            vocals = self.vocals.draw(random, self.samples)
        elif kind == "same_song" and self.whole:
            vocals = instrumental = self.vocals.draw(random, self.samples, self.whole)
            aligned = True
        elif kind == "teacher" and self.teacher.songs:
            vocals = instrumental = self.teacher.draw(random, self.samples)
            aligned = teacher = True
        else:
            vocals = self.vocals.draw(random, self.samples)
            instrumental = self.instrumentals.draw(random, self.samples)
            # A few draws are enough to avoid the singer's own song, unless it is the only one.
            for _ in range(8):
                if instrumental.song.group != vocals.song.group:
                    break
                instrumental = self.instrumentals.draw(random, self.samples)
            level_gap = instrumental.level - vocals.level
            if random.random() < config.backing:
                backing = self._backing(random, vocals, 1 + (random.random() < 1 / 3))
        behind = [*backing, *[None] * (MOST_BACKING - len(backing))]
        places = (instrumental, vocals, *behind)
        gaps = [vocals.level - place.level if vocals and place else 0.0 for place in behind]
        return {
            "instrumental": self._read("instrumental", instrumental),
            "vocals": self._read("vocals", vocals),
            "backing": torch.stack([self._read("vocals", place) for place in behind]),
            "singers": 0 if vocals is None else 1 + len(backing),
            "bandwidth": torch.tensor([place.bandwidth if place else SAMPLE_RATE / 2 for place in places]),
            "level_gap": torch.tensor(level_gap, dtype=torch.float32),
            "backing_gap": torch.tensor(gaps),
            "aligned": aligned,
            "teacher": teacher,
            "seed": int(random.integers(2**62)),
            "songs": " + ".join(dict.fromkeys(place.song.name for place in places if place)),
        }

    def _backing(self, random: np.random.Generator, vocals: "_Place", count: int) -> "list[_Place]":
        """Places of other singers, excluding those that would reduce the bandwidth of the mix."""
        pool = self.vocals
        others = [
            number
            for number, song in enumerate(pool.songs)
            if song.singer != vocals.song.singer and pool.bandwidths[number] >= vocals.bandwidth
        ]
        return [pool.draw(random, self.samples, others) for _ in range(count)] if others else []

    def _read(self, stem: str, place: "_Place | None") -> torch.Tensor:
        if place is None:
            return torch.zeros(2, self.samples, dtype=torch.int16)
        return torch.from_numpy(place.song.crop(stem, place.start, self.samples)).T


class MusicCrop(TypedDict):
    """One item of `MusicDataset`: int16 `(2, samples)`, the seed for its augmentation, and the song's name."""

    music: torch.Tensor
    seed: int
    songs: str


class MusicDataset(Dataset[MusicCrop]):
    """Crops of all music for self-supervised pretraining: unlabelled music, instrumentals, and mixtures of songs."""

    def __init__(
        self,
        songs: Sequence[PreparedSong],
        samples: int,
        config: CropConfig = CropConfig(),
        seed: int = 0,
    ) -> None:
        """Raises DataError if there is no music."""
        self.samples, self.seed = samples, seed
        self.pools = [_Pool(songs, stem, config) for stem in ("music", "instrumental")]
        if not any(pool.songs for pool in self.pools):
            raise DataError("there is no music to train on; add a folder of unlabelled music, instrumentals or songs")

    def __getitem__(self, index: int) -> MusicCrop:
        random = np.random.default_rng([self.seed, index])
        unlabelled, labelled = self.pools
        second = random.integers(unlabelled.seconds + labelled.seconds)
        song, start, *_ = (unlabelled if second < unlabelled.seconds else labelled).draw(random, self.samples)
        stems = [song.crop(stem, start, self.samples).astype(np.int32) for stem in song.stems]
        music = np.clip(sum(stems), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        return {"music": torch.from_numpy(music).T, "seed": int(random.integers(2**62)), "songs": song.name}


class _Place(NamedTuple):
    """The start of a crop (samples), and the level (dB) and bandwidth (Hz) of the stem."""

    song: PreparedSong
    start: int
    level: float
    bandwidth: float


class _Pool:
    """The songs that have a certain stem, with their probabilities (see `CropConfig`)."""

    def __init__(self, songs: Sequence[PreparedSong], stem: str, config: CropConfig) -> None:
        self.active_share = config.active_share
        self.songs: list[PreparedSong] = []
        self.levels: list[float] = []
        self.bandwidths: list[float] = []
        self.active: list[np.ndarray] = []
        for song in songs:
            if stem in song.stems and _given(config.weights, song, 1.0):
                rms = song.rms(stem)
                # Loud passages are the loudest tenth of the seconds that are not digital silence.
                sounding = rms[rms > 1e-4]
                if len(sounding):
                    level = 20 * np.log10(np.percentile(sounding, 90))
                    self.songs.append(song)
                    self.levels.append(float(level))
                    measured = song.bandwidth[stem]
                    self.bandwidths.append(min(measured, _given(config.bandwidths, song, measured)))
                    self.active.append(np.flatnonzero(rms > 10 ** ((level + config.active_level_db) / 20)))
        seconds = np.array([len(active) for active in self.active])
        self.seconds = int(seconds.sum())
        self.shares = seconds * [_given(config.weights, song, 1.0) for song in self.songs]
        if stem == "vocals":
            of_singer: Counter[str] = Counter()
            for song, length in zip(self.songs, seconds.tolist(), strict=True):
                of_singer[song.singer] += length
            self.shares = self.shares / [of_singer[song.singer] for song in self.songs]

    def draw(self, random: np.random.Generator, samples: int, among: Sequence[int] | None = None) -> _Place:
        """Draws the place of a crop of ``samples`` from the songs with the indices ``among``, or from all songs."""
        ends = np.cumsum(self.shares if among is None else self.shares[among])
        number = int(np.searchsorted(ends, random.random() * ends[-1], side="right"))
        if among is not None:
            number = among[number]
        song, active = self.songs[number], self.active[number]
        last = max(song.samples - samples, 0)
        if random.random() < self.active_share:
            second = int(active[random.integers(len(active))])
            start = int((second + random.random()) * SAMPLE_RATE - random.random() * samples)
        else:
            start = int(random.integers(last + 1))
        return _Place(song, min(max(start, 0), last), self.levels[number], self.bandwidths[number])


def _given(patterns: Mapping[str, float], song: PreparedSong, default: float) -> float:
    """The value of the first pattern that matches a song."""
    return next((value for pattern, value in patterns.items() if _matches(song, pattern)), default)


def _matches(song: PreparedSong, pattern: str) -> bool:
    return fnmatchcase(f"{song.role}/{song.name}", pattern)


def crop_numbers(crops_per_epoch: int, epoch: int, rank: int, ranks: int) -> range:
    """The numbers of the crops of one rank in one epoch, of which all ranks together have ``crops_per_epoch``.

    All ranks have equally many, because a rank with one more would wait for the others forever.
    """
    first = epoch * crops_per_epoch
    return range(first + rank, first + crops_per_epoch - crops_per_epoch % ranks, ranks)
