"""Random crops of prepared songs. The loader only reads; VoxAug mixes and augments whole batches.

Crops are numbered through all epochs, and a crop is a pure function of (seed, number). `CropSampler` shares the numbers
out between ranks, and the DataLoader those of a rank between workers. So no two ranks, workers or epochs draw the same
crop, and the same crops come whatever the number of ranks and workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from ..errors import DataError
from .prepared import FULL_SCALE, PreparedSong
from .reading import SAMPLE_RATE


@dataclass(frozen=True)
class CropConfig:
    """What is drawn. Shares are of all crops; what they leave is a mix of two different songs.

    Seconds more than ``active_level_db`` below the song's loud places count as silence; ``active_share`` of the crops
    hold a second that does not, the rest fall anywhere.
    """

    no_vocals: float = 0.08
    only_vocals: float = 0.04
    same_song: float = 0.25
    active_share: float = 0.9
    active_level_db: float = -20.0


class Crop(TypedDict):
    """One item of `CropDataset`; the default collation stacks its tensors along a new first axis.

    ``instrumental`` and ``vocals`` are int16 `(2, samples)`; all zeros where the crop has none. ``level_gap`` is
    how much louder (dB, at the loud places) the instrumental's song is than the vocals' song, 0 unless two songs meet;
    ``aligned`` tells that both come from the same place of one song; ``seed`` decides all that VoxAug draws.
    """

    instrumental: torch.Tensor
    vocals: torch.Tensor
    level_gap: torch.Tensor
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
        return {
            "instrumental": self._read("instrumental", instrumental),
            "vocals": self._read("vocals", vocals),
            "level_gap": torch.tensor(level_gap, dtype=torch.float32),
            "aligned": aligned,
            "seed": int(random.integers(2**62)),
            "songs": " + ".join(dict.fromkeys(place.song.name for place in (instrumental, vocals) if place)),
        }

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
        song, start, _ = (unlabelled if second < unlabelled.seconds else labelled).draw(random, self.samples)
        stems = [song.crop(stem, start, self.samples).astype(np.int32) for stem in song.stems]
        music = np.clip(sum(stems), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
        return {"music": torch.from_numpy(music).T, "seed": int(random.integers(2**62)), "songs": song.name}


class _Place(NamedTuple):
    """Where a crop begins (in samples), and the level of that song's stem in dB."""

    song: PreparedSong
    start: int
    level: float


class _Pool:
    """The songs that have one stem, drawn with a probability proportional to how long that stem sounds."""

    def __init__(self, songs: Sequence[PreparedSong], stem: str, config: CropConfig) -> None:
        self.active_share = config.active_share
        self.songs: list[PreparedSong] = []
        self.levels: list[float] = []
        self.active: list[np.ndarray] = []
        for song in songs:
            if stem in song.stems:
                rms = song.rms(stem)
                # Loud places: the upper tenth of the seconds that are not digital silence.
                sounding = rms[rms > 1e-4]
                if len(sounding):
                    level = 20 * np.log10(np.percentile(sounding, 90))
                    self.songs.append(song)
                    self.levels.append(float(level))
                    self.active.append(np.flatnonzero(rms > 10 ** ((level + config.active_level_db) / 20)))
        self.ends = np.cumsum([len(seconds) for seconds in self.active])
        self.seconds = int(self.ends[-1]) if self.songs else 0

    def draw(self, random: np.random.Generator, samples: int, among: Sequence[int] | None = None) -> _Place:
        """A place of a crop of ``samples``, in one of the songs whose numbers are ``among``, or of all."""
        if among is None:
            number = int(np.searchsorted(self.ends, random.integers(self.seconds), side="right"))
        else:
            number = among[int(random.integers(len(among)))]
        song, active = self.songs[number], self.active[number]
        last = max(song.samples - samples, 0)
        if random.random() < self.active_share:
            second = int(active[random.integers(len(active))])
            start = int((second + random.random()) * SAMPLE_RATE - random.random() * samples)
        else:
            start = int(random.integers(last + 1))
        return _Place(song, min(max(start, 0), last), self.levels[number])


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
