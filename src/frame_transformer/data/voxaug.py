"""VoxAug: an instrumental and a vocal crop, each augmented, mixed at random levels, with per-frame vocal presence.

The idea of training on mixes of unrelated songs is that of Uhlich et al., "Improving music source separation based on
deep neural networks through data augmentation and network blending" (ICASSP 2017, section 3).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import augment
from .augment import Noise, amplitude
from .prepared import FULL_SCALE

Range = tuple[float, float]


@dataclass(frozen=True)
class Effect:
    """Applied to a crop with ``probability``; every value is drawn uniformly from its range in ``ranges``."""

    probability: float
    ranges: tuple[Range, ...] = ()


@dataclass(frozen=True)
class StemEffects:
    """The effects on one stem, in the order in which they apply; the operations are those of `augment` by name."""

    multiplicative_noise: Effect = Effect(0.03, ((0.02, 0.2),))  # standard deviation of a bin's gain
    phase_noise: Effect = Effect(0.03, ((0.05, 0.5),))  # radians
    dynamics: Effect = Effect(0.1, ((-0.5, 0.3),))  # negative compresses, positive expands
    emphasis: Effect = Effect(0.05, ((-0.6, 0.6),))  # pre-emphasis coefficient; negative de-emphasises
    random_eq: Effect = Effect(0.3, ((1.0, 6.0),))  # standard deviation of the response, dB
    distortion: Effect = Effect(0.05, ((-6.0, 12.0), (0.0, 0.5)))  # drive dB, bias
    reverb: Effect = Effect(0.05, ((0.3, 2.5), (-24.0, -9.0)))  # seconds, wet dB
    time_mask: Effect = Effect(0.05, ((0.1, 1.0),))  # seconds
    frequency_mask: Effect = Effect(0.05, ((0.2, 1.5),))  # octaves
    width: Effect = Effect(0.2, ((0.0, 1.5),))  # factor of the side signal
    balance: Effect = Effect(0.2, ((-6.0, 6.0),))  # left above right, dB
    channel_swap: Effect = Effect(0.5)
    channel_drop: Effect = Effect(0.01)
    polarity: Effect = Effect(0.5)


@dataclass(frozen=True)
class VoxAugConfig:
    """How crops are augmented and mixed.

    ``vocals_level`` is the level (dB) of the vocals' song over the instrumental's song in a mix of two songs, measured
    at the loud places of each; ``aligned_level`` the change of a song's own balance. ``speed`` (ratio) changes tempo
    and pitch together, ``time_stretch`` (ratio) the tempo alone, ``pitch_shift`` (semitones) the pitch alone; they act
    alike on both stems of an aligned crop. ``presence_threshold`` (dB, relative to the RMS of the crop's mixture) is
    the level above which a frame counts as holding vocals.
    """

    instrumental: StemEffects = StemEffects()
    vocals: StemEffects = StemEffects(
        random_eq=Effect(0.4, ((1.0, 6.0),)),
        distortion=Effect(0.1, ((-6.0, 12.0), (0.0, 0.5))),
        reverb=Effect(0.3, ((0.3, 2.5), (-24.0, -6.0))),
    )
    speed: Effect = Effect(0.3, ((0.9, 1.1),))
    time_stretch: Effect = Effect(0.05, ((0.9, 1.1),))
    pitch_shift: Effect = Effect(0.05, ((-2.0, 2.0),))
    vocals_level: Range = (-10.0, 5.0)
    aligned_level: Range = (-4.0, 4.0)
    mixture_level: Range = (-6.0, 3.0)
    presence_threshold: float = -40.0
    n_fft: int = 2048
    hop_length: int = 1024


NO_EFFECTS = StemEffects(**{effect.name: Effect(0.0) for effect in fields(StemEffects)})


def without_effects(config: VoxAugConfig) -> VoxAugConfig:
    """The same frames and threshold, for validation: nothing but the sum of the stems, songs at equal loudness."""
    return replace(
        config,
        instrumental=NO_EFFECTS,
        vocals=NO_EFFECTS,
        speed=Effect(0.0),
        time_stretch=Effect(0.0),
        pitch_shift=Effect(0.0),
        vocals_level=(0.0, 0.0),
        aligned_level=(0.0, 0.0),
        mixture_level=(0.0, 0.0),
    )


class VoxAug:
    """Turns a batch of crops (`CropDataset`) into a training batch, on the device the crops are on."""

    def __init__(self, samples: int, config: VoxAugConfig = VoxAugConfig()) -> None:
        """``samples`` is the length of the mixes made; crops must have `read_samples` of them."""
        self.samples, self.config = samples, config

    @property
    def read_samples(self) -> int:
        """How many samples a crop must have so that speeding up does not run out of them."""
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
        """Returns float32 "mixture", "instrumental" and "vocals" `(batch, 2, samples)`, "presence" `(batch, frames)`
        of 0 and 1 with ``frames = 1 + samples // hop_length``, and "songs", the names of what was mixed.

        The mixture is the sum of the other two and never exceeds full scale. The result depends on each crop's own
        seed alone, not on the batch it is in.
        """
        seeds = crops["seed"].tolist()
        aligned = crops["aligned"].cpu().numpy()
        instrumental = crops["instrumental"].float() / FULL_SCALE
        vocals = crops["vocals"].float() / FULL_SCALE
        device = instrumental.device
        apart = [seed + (0 if both else 1) for seed, both in zip(seeds, aligned, strict=True)]
        instrumental = self._effects(self._retime(instrumental, seeds), self.config.instrumental, seeds, 1)
        vocals = self._effects(self._retime(vocals, apart), self.config.vocals, seeds, 2)

        levels = np.stack([np.random.default_rng([seed, 3]).random(3) for seed in seeds])
        over = crops["level_gap"].cpu().numpy() + _within(levels[:, 0], self.config.vocals_level)
        over = np.where(aligned, _within(levels[:, 1], self.config.aligned_level), over)
        vocals = vocals * amplitude(_column(over, device))
        mixture = instrumental + vocals
        gain = amplitude(_column(_within(levels[:, 2], self.config.mixture_level), device))
        peak = torch.stack([x.abs().amax(dim=(1, 2)) for x in (mixture, instrumental, vocals)]).amax(dim=0)
        gain = torch.minimum(gain, 1 / peak.clamp_min(1e-8)[:, None, None])
        instrumental, vocals = instrumental * gain, vocals * gain
        mixture = instrumental + vocals
        return {
            "mixture": mixture,
            "instrumental": instrumental,
            "vocals": vocals,
            "presence": vocal_presence(
                vocals, mixture, self.config.n_fft, self.config.hop_length, self.config.presence_threshold
            ),
            "songs": crops["songs"],
        }

    @torch.no_grad()
    def music(self, crops: Mapping[str, Any]) -> dict[str, Any]:
        """Augments crops of unlabelled music (`MusicDataset`) as instrumentals are: "mixture" and "songs"."""
        seeds = crops["seed"].tolist()
        music = self._retime(crops["music"].float() / FULL_SCALE, seeds)
        return {"mixture": self._effects(music, self.config.instrumental, seeds, 1), "songs": crops["songs"]}

    def _retime(self, x: Tensor, seeds: list[int]) -> Tensor:
        tempo, pitch = np.ones(len(seeds)), np.ones(len(seeds))
        for number, effect in enumerate(self._time_effects):
            rows, values = _draw(effect, seeds, 0, number)
            if len(rows):
                value = values[0].double().numpy()
                tempo[rows] *= value if number < 2 else 1
                pitch[rows] *= (value, 1, 2 ** (value / 12))[number]
        if (tempo == 1).all() and (pitch == 1).all():
            return x[..., : self.samples].contiguous()
        ratios = zip(tempo.tolist(), pitch.tolist(), strict=True)
        return torch.stack([augment.retime(crop, *pair, self.samples) for crop, pair in zip(x, ratios, strict=True)])

    def _effects(self, x: Tensor, effects: StemEffects, seeds: list[int], stem: int) -> Tensor:
        for number, field in enumerate(fields(effects)):
            rows, values = _draw(getattr(effects, field.name), seeds, stem, number)
            if len(rows):
                noise = Noise(augment.seeds_of([seeds[row] for row in rows], stem, number, 1), x.device)
                operation = getattr(augment, field.name)
                x[rows] = operation(x[rows], *(value.to(x.device) for value in values), noise)
        return x


def vocal_presence(vocals: Tensor, mixture: Tensor, n_fft: int, hop_length: int, threshold: float) -> Tensor:
    """Which STFT frames hold vocals: float32 `(batch, 1 + samples // hop_length)` of 0 and 1.

    A frame (centred, ``n_fft`` samples) holds vocals when their RMS in it is more than ``threshold`` dB above (below,
    if negative) the RMS of the whole mixture `(batch, channels, samples)`.
    """
    energy = vocals.square().mean(dim=1, keepdim=True)
    frames = functional.avg_pool1d(energy, n_fft, hop_length, padding=n_fft // 2, count_include_pad=False)[:, 0]
    reference = mixture.square().mean(dim=(1, 2)).unsqueeze(1)
    return (frames > reference * 10 ** (threshold / 10)).float()


def _within(uniform: np.ndarray, limits: Range) -> np.ndarray:
    return limits[0] + uniform * (limits[1] - limits[0])


def _column(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _draw(effect: Effect, seeds: list[int], stem: int, number: int) -> tuple[list[int], list[Tensor]]:
    """The rows an effect applies to, and its values for them: one tensor for each range."""
    draws = np.stack([np.random.default_rng([seed, stem, number]).random(1 + len(effect.ranges)) for seed in seeds])
    rows = np.flatnonzero(draws[:, 0] < effect.probability).tolist()
    columns = [_within(draws[rows, 1 + place], limits) for place, limits in enumerate(effect.ranges)]
    return rows, [torch.tensor(column, dtype=torch.float32) for column in columns]
