"""Random crops of prepared songs. The loader only reads; VoxAug mixes and augments whole batches.

Crops are numbered through all epochs, and a crop is a pure function of (seed, number). `CropSampler` shares the numbers
out between ranks, and the DataLoader those of a rank between workers. So no two ranks, workers or epochs draw the same
crop, and the same crops come whatever the number of ranks and workers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..errors import DataError
from .prepared import FULL_SCALE, PreparedSong
from .reading import SAMPLE_RATE

MOST_BACKING = 2


@dataclass(frozen=True)
class CropConfig:
    """What is drawn. Shares are of all crops; what they leave is a mix of two different songs.

    Seconds more than ``active_level_db`` below the song's loud places count as silence; ``active_share`` of the crops
    hold a second that does not, the rest fall anywhere. In a share ``backing`` of the mixes of two songs another singer
    is heard behind the first, in a third of these two others.

    Every singer (`PreparedSong.singer`) is drawn as often, however much there is of each; instrumentals are drawn by
    how long they are. ``weights`` and ``bandwidths`` map patterns of "role/name" (as in `fnmatch`, the first that fits
    holds) to how many times as often a singer or an instrumental is drawn, and to a frequency (Hz) above which a song
    holds nothing of use, if it is lower than what was measured: ``{"vocals/chant-*": 0.2}``.
    """

    no_vocals: float = 0.08
    only_vocals: float = 0.04
    same_song: float = 0.25
    active_share: float = 0.9
    active_level_db: float = -20.0
    backing: float = 0.2
    weights: dict[str, float] = field(default_factory=dict)
    bandwidths: dict[str, float] = field(default_factory=dict)


class Crop(TypedDict):
    """One item of `CropDataset`; the default collation stacks its tensors along a new first axis.

    ``instrumental`` and ``vocals`` are int16 `(2, samples)`; all zeros where the crop has none. ``level_gap`` is
    how much louder (dB, at the loud places) the instrumental's song is than the vocals' song, 0 unless two songs meet;
    ``aligned`` tells that both come from the same place of one song; ``seed`` decides all that VoxAug draws.

    ``backing``, int16 `(2, 2, samples)`, holds ``singers`` - 1 further voices and zeros; ``backing_gap`` `(2,)` is how
    much louder the first singer's song is than each of theirs. ``bandwidth`` `(4,)` is the frequency (Hz) above which
    there is nothing in the instrumental, the vocals and each backing voice: Nyquist's where there is none.
    """

    instrumental: torch.Tensor
    vocals: torch.Tensor
    backing: torch.Tensor
    singers: int
    bandwidth: torch.Tensor
    level_gap: torch.Tensor
    backing_gap: torch.Tensor
    aligned: bool
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
        """``samples`` is the length read, which may exceed that of the mix (see `VoxAug.read_samples`).

        Raises DataError when there is no instrumental or no vocal to draw from.
        """
        self.samples, self.config, self.seed = samples, config, seed
        self.instrumentals = _Pool(songs, "instrumental", config)
        self.vocals = _Pool(songs, "vocals", config)
        self.whole = [number for number, song in enumerate(self.vocals.songs) if "instrumental" in song.stems]
        if not self.instrumentals.songs:
            raise DataError("there are no instrumentals to train on; add a folder of instrumentals or songs with stems")
        if not self.vocals.songs:
            raise DataError("there are no vocals to train on; add a folder of vocals or of songs with stems")

    def __getitem__(self, index: int) -> Crop:
        random = np.random.default_rng([self.seed, index])
        kind, config = random.random(), self.config
        instrumental = vocals = None
        backing: list[_Place] = []
        level_gap, aligned = 0.0, False
        if kind < config.no_vocals:
            instrumental = self.instrumentals.draw(random, self.samples)
        elif kind < config.no_vocals + config.only_vocals:
            vocals = self.vocals.draw(random, self.samples)
        elif kind < config.no_vocals + config.only_vocals + config.same_song and self.whole:
            vocals = instrumental = self.vocals.draw(random, self.samples, self.whole)
            aligned = True
        else:
            vocals = self.vocals.draw(random, self.samples)
            instrumental = self.instrumentals.draw(random, self.samples)
            # A handful of draws avoids the singer's own song; with a single song there is no other.
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
            "seed": int(random.integers(2**62)),
            "songs": " + ".join(dict.fromkeys(place.song.name for place in places if place)),
        }

    def _backing(self, random: np.random.Generator, vocals: "_Place", count: int) -> "list[_Place]":
        """Places of other singers; none of those who would limit the mix further, and none if there is no other."""
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
    """Crops of any music, for self-supervised pretraining: unlabelled, instrumentals, and songs with their voice."""

    def __init__(
        self,
        songs: Sequence[PreparedSong],
        samples: int,
        config: CropConfig = CropConfig(),
        seed: int = 0,
    ) -> None:
        """Raises DataError when there is no music to draw from."""
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
    """Where a crop begins (in samples), and the level (dB) and bandwidth (Hz) of that song's stem."""

    song: PreparedSong
    start: int
    level: float
    bandwidth: float


class _Pool:
    """The songs that have one stem, and how often each is drawn: as `CropConfig` tells."""

    def __init__(self, songs: Sequence[PreparedSong], stem: str, config: CropConfig) -> None:
        self.active_share = config.active_share
        self.songs: list[PreparedSong] = []
        self.levels: list[float] = []
        self.bandwidths: list[float] = []
        self.active: list[np.ndarray] = []
        for song in songs:
            if stem in song.stems and _given(config.weights, song, 1.0):
                rms = song.rms(stem)
                # Loud places: the upper tenth of the seconds that are not digital silence.
                sounding = rms[rms > 1e-4]
                if len(sounding):
                    level = 20 * np.log10(np.percentile(sounding, 90))
                    self.songs.append(song)
                    self.levels.append(float(level))
                    measured = song.bandwidth.get(stem, SAMPLE_RATE / 2)
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
        """A place of a crop of ``samples``, in one of the songs whose numbers are ``among``, or of all."""
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
    """What the first pattern that fits a song gives."""
    name = f"{song.role}/{song.name}"
    return next((value for pattern, value in patterns.items() if fnmatchcase(name, pattern)), default)


class CropSampler(Sampler[int]):
    """The crop numbers of one rank in one epoch, in order; every epoch has ``crops_per_epoch`` of all ranks together.

    To resume within an epoch, ``start`` is the number of its crops that all ranks together have consumed.
    """

    def __init__(self, crops_per_epoch: int, rank: int = 0, ranks: int = 1, epoch: int = 0, start: int = 0) -> None:
        self.crops_per_epoch, self.rank, self.ranks, self.epoch, self.start = crops_per_epoch, rank, ranks, epoch, start

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that comes next; Lightning calls this. ``start`` holds for the first epoch only."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * self.crops_per_epoch + number for number in self._numbers())

    def __len__(self) -> int:
        return len(self._numbers())

    def _numbers(self) -> range:
        # All ranks get equally many, or those with one more would wait for the others for ever.
        return range(self.start + self.rank, self.crops_per_epoch - self.crops_per_epoch % self.ranks, self.ranks)
