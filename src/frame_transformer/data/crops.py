"""Random crops of prepared songs. The loader only reads; VoxAug mixes and augments whole batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from .catalogue import DataError
from .prepared import PreparedSong
from .reading import SAMPLE_RATE


class Crop(TypedDict):
    """One item of `CropDataset`; the default collation stacks its tensors along a new first axis.

    ``instrumental`` and ``vocals`` are int16 `(2, samples)`; all zeros where the crop has none. ``level_gap`` is
    how much louder (dB, at the loud places) the instrumental's song is than the vocals' song, 0 unless two songs meet;
    ``aligned`` tells that both come from the same place of one song; ``seed`` decides all that VoxAug draws.
    """

    instrumental: torch.Tensor
    vocals: torch.Tensor
    level_gap: float
    aligned: bool
    seed: int
    songs: str


@dataclass(frozen=True)
class CropConfig:
    """What is drawn. Shares are of all crops; what they leave is a mix of two different songs.

    ``active_level_db`` below the song's loud places a second counts as silence; ``active_share`` of the crops hold a
    place that is not silent, the rest fall anywhere.
    """

    no_vocals: float = 0.08
    only_vocals: float = 0.04
    same_song: float = 0.25
    active_share: float = 0.9
    active_level_db: float = -20.0


class CropDataset(Dataset[Crop]):
    """Crop number ``index`` of epoch ``epoch`` is a pure function of (seed, epoch, index).

    Ranks and workers share the numbers out (`CropSampler`, or any sampler without repetition), so no two of them draw
    the same crop, and the same crops come whatever the number of ranks and workers.
    """

    def __init__(
        self,
        songs: Sequence[PreparedSong],
        samples: int,
        crops_per_epoch: int,
        config: CropConfig = CropConfig(),
        seed: int = 0,
    ) -> None:
        """``samples`` is the length read, which may exceed that of the mix (see `VoxAug.read_samples`).

        Raises DataError when there is no instrumental or no vocal to draw from.
        """
        self.samples, self.crops_per_epoch, self.config, self.seed, self.epoch = (
            samples,
            crops_per_epoch,
            config,
            seed,
            0,
        )
        self.instrumentals = _Pool(songs, "instrumental", config.active_level_db)
        self.vocals = _Pool(songs, "vocals", config.active_level_db)
        both = {song.folder for song in self.vocals.songs} & {song.folder for song in self.instrumentals.songs}
        self.whole = [number for number, song in enumerate(self.vocals.songs) if song.folder in both]
        if not self.instrumentals.songs:
            raise DataError("the catalogue has no instrumentals; add a folder of instrumentals or of songs with stems")
        if not self.vocals.songs:
            raise DataError("the catalogue has no vocals; add a folder of vocals or of songs with stems")

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose crops come next; workers started later follow."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.crops_per_epoch

    def __getitem__(self, index: int) -> Crop:
        random = np.random.default_rng([self.seed, self.epoch, index])
        kind, config = random.random(), self.config
        instrumental = vocals = None
        aligned = False
        level_gap = 0.0
        if kind < config.no_vocals:
            instrumental = self._place(self.instrumentals, random)
        elif kind < config.no_vocals + config.only_vocals:
            vocals = self._place(self.vocals, random)
        elif kind < config.no_vocals + config.only_vocals + config.same_song and self.whole:
            vocals = instrumental = self._place(self.vocals, random, self.whole)
            aligned = True
        else:
            vocals = self._place(self.vocals, random)
            instrumental = self._place(self.instrumentals, random)
            # A handful of draws avoids the singer's own song; with a single song there is no other.
            for _ in range(8):
                if instrumental[0].name != vocals[0].name:
                    break
                instrumental = self._place(self.instrumentals, random)
            level_gap = instrumental[0].level("instrumental") - vocals[0].level("vocals")
        return {
            "instrumental": self._read("instrumental", instrumental),
            "vocals": self._read("vocals", vocals),
            "level_gap": level_gap,
            "aligned": aligned,
            "seed": int(random.integers(2**62)),
            "songs": " + ".join(dict.fromkeys(place[0].name for place in (instrumental, vocals) if place)),
        }

    def _place(
        self, pool: "_Pool", random: np.random.Generator, among: Sequence[int] | None = None
    ) -> tuple[PreparedSong, int]:
        return pool.draw(random, self.samples, self.config.active_share, among)

    def _read(self, stem: str, place: tuple[PreparedSong, int] | None) -> torch.Tensor:
        if place is None:
            return torch.zeros(2, self.samples, dtype=torch.int16)
        song, start = place
        return torch.from_numpy(song.crop(stem, start, self.samples)).T


class _Pool:
    """The songs that have one stem, drawn with a probability proportional to how long that stem sounds."""

    def __init__(self, songs: Sequence[PreparedSong], stem: str, active_level_db: float) -> None:
        candidates = [song for song in songs if stem in song.stems]
        active = [_active_seconds(song, stem, active_level_db) for song in candidates]
        self.songs = [song for song, seconds in zip(candidates, active, strict=True) if len(seconds)]
        self.active = [seconds for seconds in active if len(seconds)]
        self.ends = np.cumsum([len(seconds) for seconds in self.active])

    def draw(
        self, random: np.random.Generator, samples: int, active_share: float, among: Sequence[int] | None
    ) -> tuple[PreparedSong, int]:
        """A song and the first sample of a crop of it."""
        if among is None:
            number = int(np.searchsorted(self.ends, random.integers(self.ends[-1]), side="right"))
        else:
            number = among[int(random.integers(len(among)))]
        song = self.songs[number]
        last = max(song.samples - samples, 0)
        if random.random() >= active_share:
            return song, int(random.integers(last + 1))
        second = int(self.active[number][random.integers(len(self.active[number]))])
        start = int((second + random.random()) * SAMPLE_RATE - random.random() * samples)
        return song, min(max(start, 0), last)


def _active_seconds(song: PreparedSong, stem: str, active_level_db: float) -> np.ndarray:
    threshold = 10 ** ((song.level(stem) + active_level_db) / 20)
    return np.flatnonzero(song.rms(stem) > max(threshold, 1e-4))


class CropSampler(Sampler[int]):
    """The crop numbers of one rank, in order: ``rank``, ``rank + ranks``, … beginning after ``start`` crops of all.

    To resume within an epoch, ``start`` is the number of crops that all ranks together have consumed.
    """

    def __init__(self, crops_per_epoch: int, rank: int = 0, ranks: int = 1, start: int = 0) -> None:
        self.numbers = range(start + rank, crops_per_epoch - crops_per_epoch % ranks, ranks)

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)
