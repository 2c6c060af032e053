"""VoxAug: augments instrumental and vocal crops and mixes them at random levels.

Training on mixes of unrelated songs was proposed by Uhlich et al., "Improving music source separation based on deep
neural networks through data augmentation and network blending" (ICASSP 2017, section 3).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import augment
from .augment import Noise, amplitude
from .prepared import FULL_SCALE

Range = tuple[float, float]


@dataclass(frozen=True)
class Effect:
    """An effect, applied with ``probability``. Each parameter is drawn uniformly from its range in ``ranges``."""

    probability: float
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class StemEffects:
    """The effects on one stem, in the order of application. Each is the function of that name in `augment`."""

    multiplicative_noise: Effect = Effect(0.03, ((0.02, 0.2),))  # standard deviation of a bin's gain
    phase_noise: Effect = Effect(0.03, ((0.05, 0.5),))  # radians
    chop: Effect = Effect(0.01, ((70.0, 170.0),))  # beats per minute
    dynamics: Effect = Effect(0.1, ((-0.5, 0.3),))  # negative compresses, positive expands
    emphasis: Effect = Effect(0.05, ((-0.6, 0.6),))  # pre-emphasis coefficient; negative de-emphasises
    random_eq: Effect = Effect(0.3, ((1.0, 6.0),))  # standard deviation of the response, dB
    distortion: Effect = Effect(0.05, ((-6.0, 12.0), (0.0, 0.5)))  # drive dB, bias
    telephone: Effect = Effect(0.01, ((200.0, 600.0), (2000.0, 5000.0)))  # lower and upper edge, Hz
    harmony: Effect = Effect(0.0, ((-12.0, -2.0),))  # level relative to the original, dB
    doubling: Effect = Effect(0.03, ((0.01, 0.04), (3.0, 20.0), (-10.0, 0.0)))  # delay s, detuning cents, level dB
    chorus: Effect = Effect(0.03, ((0.005, 0.02), (5.0, 25.0), (-10.0, -1.0)))  # delay s, cents, level dB
    flanger: Effect = Effect(0.02, ((0.002, 0.008), (-10.0, -1.0)))  # longest delay s, level dB
    echo: Effect = Effect(0.03, ((70.0, 170.0), (0.15, 0.6), (-22.0, -6.0)))  # beats per minute, feedback, wet dB
    reverb: Effect = Effect(0.05, ((0.3, 2.5), (-24.0, -9.0)))  # seconds, wet dB
    time_mask: Effect = Effect(0.05, ((0.1, 1.0),))  # seconds
    frequency_mask: Effect = Effect(0.05, ((0.2, 1.5),))  # octaves
    width: Effect = Effect(0.2, ((0.0, 1.5),))  # factor of the side signal
    balance: Effect = Effect(0.2, ((-6.0, 6.0),))  # left relative to right, dB
    channel_swap: Effect = Effect(0.5)
    channel_drop: Effect = Effect(0.01)
    polarity: Effect = Effect(0.5)


@dataclass(frozen=True)
class MixEffects:
    """The effects on a whole mix. All stems are changed alike, so that they still add up to it."""

    room: Effect = Effect(0.07, ((0.2, 1.5), (-24.0, -12.0)))  # seconds, wet dB
    bus_compression: Effect = Effect(0.3, ((-6.0, 6.0), (1.5, 6.0)))  # threshold relative to the mix RMS dB, ratio
    coding: Effect = Effect(0.05, ((4.0, 18.0),))  # signal-to-coding-noise ratio, dB
    lowpass: Effect = Effect(0.15, ((11_000.0, 16_000.0),))  # Hz
    width: Effect = Effect(0.05, ((0.0, 0.0),))  # factor of the side signal: mono


@dataclass(frozen=True)
class VoxAugConfig:
    """How crops are augmented and mixed.

    Levels are in dB, relative and measured at the loud passages of each song. ``vocals_level`` is that of the vocals'
    song to the instrumental's song in a mix of two songs. ``aligned_level`` changes the balance within one song.
    ``backing_level`` is that of each further singer to the first, and ``backing_balance`` pans such a singer: left
    relative to right. ``speed`` (ratio) changes tempo and pitch together, ``time_stretch`` (ratio) only the tempo, and
    ``pitch_shift`` (semitones) only the pitch; both stems of an aligned crop are changed alike. If a stem is
    band-limited below ``full_bandwidth`` (Hz), the whole mix is limited to the same frequency.
    """

    instrumental: StemEffects = StemEffects()
    vocals: StemEffects = StemEffects(
        chop=Effect(0.05, ((70.0, 170.0),)),
        random_eq=Effect(0.4, ((1.0, 6.0),)),
        distortion=Effect(0.12, ((-6.0, 20.0), (0.0, 0.5))),
        telephone=Effect(0.04, ((200.0, 600.0), (2000.0, 5000.0))),
        harmony=Effect(0.03, ((-12.0, -2.0),)),
        doubling=Effect(0.15, ((0.01, 0.04), (3.0, 20.0), (-10.0, 0.0))),
        chorus=Effect(0.06, ((0.005, 0.02), (5.0, 25.0), (-10.0, -1.0))),
        flanger=Effect(0.03, ((0.002, 0.008), (-10.0, -1.0))),
        echo=Effect(0.15, ((70.0, 170.0), (0.15, 0.6), (-22.0, -6.0))),
        reverb=Effect(0.3, ((0.3, 2.5), (-24.0, -6.0))),
    )
    mix: MixEffects = MixEffects()
    speed: Effect = Effect(0.3, ((0.9, 1.1),))
    time_stretch: Effect = Effect(0.05, ((0.9, 1.1),))
    pitch_shift: Effect = Effect(0.05, ((-2.0, 2.0),))
    vocals_level: Range = (-6.0, 6.0)
    backing_level: Range = (-14.0, -2.0)
    backing_balance: Range = (-18.0, 18.0)
    aligned_level: Range = (-4.0, 4.0)
    mixture_level: Range = (-6.0, 3.0)
    full_bandwidth: float = 14_000.0


NO_EFFECTS = StemEffects(**{effect.name: Effect(0.0) for effect in fields(StemEffects)})
NO_MIX_EFFECTS = MixEffects(**{effect.name: Effect(0.0) for effect in fields(MixEffects)})


def without_effects(config: VoxAugConfig) -> VoxAugConfig:
    """The configuration for validation: the plain sum of the stems, with songs at equal loudness."""
    return replace(
        config,
        instrumental=NO_EFFECTS,
        vocals=NO_EFFECTS,
        mix=NO_MIX_EFFECTS,
        speed=Effect(0.0),
        time_stretch=Effect(0.0),
        pitch_shift=Effect(0.0),
        vocals_level=(0.0, 0.0),
        backing_balance=(0.0, 0.0),
        aligned_level=(0.0, 0.0),
        mixture_level=(0.0, 0.0),
    )


class VoxAug:
    """Turns a batch of crops (`CropDataset`) into a training batch on the same device."""

    def __init__(self, samples: int, config: VoxAugConfig = VoxAugConfig()) -> None:
        """``samples`` is the length of the mixes. Crops must have `read_samples` samples."""
        self.samples, self.config = samples, config

    @property
    def read_samples(self) -> int:
        """The length of crops in samples, enough for the fastest tempo."""
        speed, stretch, shift = (
            (neutral, *effect.ranges[0]) if effect.probability else (neutral,)
            for effect, neutral in zip(self._time_effects, (1.0, 1.0, 0.0), strict=True)
        )
        tempo, pitches = max(speed) * max(stretch), [max(speed) * 2 ** (semitones / 12) for semitones in shift]
        return max(augment.retime_length(self.samples, tempo, pitch) for pitch in pitches)

    @property
    def _time_effects(self) -> tuple[Effect, Effect, Effect]:
        return self.config.speed, self.config.time_stretch, self.config.pitch_shift

    @torch.no_grad()
    def __call__(self, crops: Mapping[str, Any]) -> dict[str, Any]:
        """Returns float32 "mixture", "instrumental" and "vocals" `(batch, 2, samples)`, "songs" and "seed".

        The mixture is the sum of the other two and never exceeds full scale. Each result depends only on the crop and
        its seed, not on the rest of the batch.
        """
        seeds, config = crops["seed"].tolist(), self.config
        aligned, bandwidth = crops["aligned"].cpu().numpy(), crops["bandwidth"].cpu().numpy().copy()
        teacher = crops["teacher"].cpu().numpy()
        apart = [seed + (0 if both else 1) for seed, both in zip(seeds, aligned, strict=True)]
        instrumental, pitch = self._retime(crops["instrumental"].float() / FULL_SCALE, seeds)
        bandwidth[:, 0] *= pitch
        vocals, pitch = self._retime(crops["vocals"].float() / FULL_SCALE, apart)
        bandwidth[:, 1] *= pitch
        instrumental = self._effects(instrumental, config.instrumental, seeds, 1, ~teacher)
        vocals = self._effects(vocals, config.vocals, seeds, 2, ~teacher)
        for place in range(crops["backing"].shape[1]):
            rows = torch.nonzero(crops["singers"] > place + 1).flatten().tolist()
            if rows:
                backing_seeds = [seeds[row] + 2 + place for row in rows]
                backing, pitch = self._retime(crops["backing"][rows, place].float() / FULL_SCALE, backing_seeds)
                bandwidth[rows, 2 + place] *= pitch
                backing = self._effects(backing, config.vocals, backing_seeds, 2)
                draws = _uniform(backing_seeds, 3, 2)
                level = crops["backing_gap"][rows, place].cpu().numpy() + _within(draws[:, 0], config.backing_level)
                balance = _within(draws[:, 1], config.backing_balance)
                panned = augment.balance(backing, torch.tensor(balance, dtype=torch.float32, device=backing.device))
                vocals[rows] += augment.keep_level(panned, backing) * amplitude(_column(level, backing.device))

        levels = _uniform(seeds, 3, 3)
        over = crops["level_gap"].cpu().numpy() + _within(levels[:, 0], config.vocals_level)
        over = np.where(aligned, _within(levels[:, 1], config.aligned_level), over)
        over[teacher] = 0.0
        stems = torch.stack([instrumental, vocals * amplitude(_column(over, vocals.device))], dim=1)
        stems = self._limit(self._effects(stems, config.mix, seeds, 4), bandwidth.min(axis=1))
        gain = amplitude(_column(_within(levels[:, 2], config.mixture_level), stems.device))
        peak = torch.maximum(stems.abs().amax(dim=(1, 2, 3)), stems.sum(dim=1).abs().amax(dim=(1, 2)))
        gain = torch.minimum(gain, 1 / peak.clamp_min(1e-8)[:, None, None])
        instrumental, vocals = (stems * gain[:, None]).unbind(dim=1)
        mixture = instrumental + vocals
        return {
            "mixture": mixture,
            "instrumental": instrumental,
            "vocals": vocals,
            "songs": crops["songs"],
            "seed": crops["seed"],
        }

    @torch.no_grad()
    def music(self, crops: Mapping[str, Any]) -> dict[str, Any]:
        """Augments crops of unlabelled music (`MusicDataset`) like instrumentals: "mixture", "songs" and "seed"."""
        seeds = crops["seed"].tolist()
        music, _ = self._retime(crops["music"].float() / FULL_SCALE, seeds)
        mixture = self._effects(music, self.config.instrumental, seeds, 1)
        return {"mixture": mixture, "songs": crops["songs"], "seed": crops["seed"]}

    def _retime(self, x: Tensor, seeds: list[int]) -> tuple[Tensor, np.ndarray]:
        """Changes tempo and pitch of the crops and cuts them to length; also returns the pitch ratio of each."""
        tempo, pitch = np.ones(len(seeds)), np.ones(len(seeds))
        for number, rows, values in _draw(self._time_effects, seeds, 0):
            value = values[0].double().numpy()
            tempo[rows] *= value if number < 2 else 1
            pitch[rows] *= (value, 1, 2 ** (value / 12))[number]
        if (tempo == 1).all() and (pitch == 1).all():
            return x[..., : self.samples].contiguous(), pitch
        ratios = zip(tempo.tolist(), pitch.tolist(), strict=True)
        crops = [augment.retime(crop, *pair, self.samples) for crop, pair in zip(x, ratios, strict=True)]
        return torch.stack(crops), pitch

    def _effects(
        self, x: Tensor, effects: StemEffects | MixEffects, seeds: list[int], stem: int, among: np.ndarray | None = None
    ) -> Tensor:
        """Applies effects to the crops, or to those that ``among`` (bool, (batch,)) is true for."""
        names, crops = [field.name for field in fields(effects)], list(x.split(1))
        for number, rows, values in _draw([getattr(effects, name) for name in names], seeds, stem, among):
            noise = Noise(augment.seeds_of([seeds[row] for row in rows], stem, number, 1), x.device)
            operation = getattr(augment, names[number])
            changed = operation(torch.cat([crops[row] for row in rows]), *(v.to(x.device) for v in values), noise)
            for row, crop in zip(rows, changed.split(1), strict=True):
                crops[row] = crop
        return torch.cat(crops)

    def _limit(self, stems: Tensor, bandwidth: np.ndarray) -> Tensor:
        """Limits mixes to the bandwidth of their most limited stem, which would otherwise give it away."""
        rows = np.flatnonzero(bandwidth < self.config.full_bandwidth).tolist()
        if rows:
            cutoff = torch.tensor(bandwidth[rows], dtype=torch.float32, device=stems.device)
            stems[rows] = augment.lowpass(stems[rows], cutoff)
        return stems


def _within(uniform: np.ndarray, limits: Range) -> np.ndarray:
    return limits[0] + uniform * (limits[1] - limits[0])


def _column(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _uniform(seeds: list[int], path: int, *shape: int) -> np.ndarray:
    """Uniform random numbers in [0, 1) from each crop's seed: `(batch, *shape)`."""
    return np.stack([np.random.default_rng([seed, path]).random(shape) for seed in seeds])


def _draw(
    effects: Sequence[Effect], seeds: list[int], stem: int, among: np.ndarray | None = None
) -> Iterator[tuple[int, list[int], list[Tensor]]]:
    """Yields for each effect its index, the rows it applies to, and a tensor of values for each range."""
    draws = _uniform(seeds, stem, len(effects), 1 + max(len(effect.ranges) for effect in effects))
    for number, effect in enumerate(effects):
        drawn = draws[:, number, 0] < effect.probability
        rows = np.flatnonzero(drawn if among is None else drawn & among).tolist()
        if rows:
            columns = [_within(draws[rows, number, 1 + place], limits) for place, limits in enumerate(effect.ranges)]
            yield number, rows, [torch.tensor(column, dtype=torch.float32) for column in columns]
