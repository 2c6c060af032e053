"""Augmentations as batched torch operations on `(batch, channels, samples)`.

Every operation takes the audio, one tensor `(batch,)` for each range of its `Effect`, and a `Noise` source; it returns
audio of the same shape, except `speed`. Nothing in here draws whether or how strongly it applies: VoxAug does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .reading import SAMPLE_RATE


@dataclass(frozen=True)
class Noise:
    """Random numbers of each crop of a batch: the same for a crop whatever batch it is in."""

    seeds: Sequence[int]
    device: torch.device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal `(batch, *shape)`."""
        return torch.stack(
            [torch.randn(shape, generator=self._generator(seed), device=self.device) for seed in self.seeds]
        )

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1): `(batch, *shape)`."""
        return torch.stack(
            [torch.rand(shape, generator=self._generator(seed), device=self.device) for seed in self.seeds]
        )

    def _generator(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)


def amplitude(decibels: Tensor) -> Tensor:
    """Amplitude ratio of a level in dB."""
    return 10 ** (decibels / 20)


def rms(x: Tensor) -> Tensor:
    """Root mean square over channels and samples: `(batch, 1, 1)`."""
    return x.square().mean(dim=(1, 2), keepdim=True).sqrt()


def keep_level(changed: Tensor, original: Tensor) -> Tensor:
    """``changed`` scaled to the RMS of ``original``."""
    return changed * (rms(original) / rms(changed).clamp_min(1e-8))


def polarity(x: Tensor, noise: Noise) -> Tensor:
    """Turns the waveform over."""
    return -x


def channel_swap(x: Tensor, noise: Noise) -> Tensor:
    """Left for right."""
    return x.flip(1)


def channel_drop(x: Tensor, noise: Noise) -> Tensor:
    """Silences the left or the right channel."""
    kept = (noise.uniform(1) < 0.5).to(x.dtype)
    return x * torch.stack([kept, 1 - kept], dim=1)


def balance(x: Tensor, decibels: Tensor, noise: Noise) -> Tensor:
    """Moves the sound to the left by ``decibels`` of level difference (to the right if negative)."""
    half = decibels / 2
    return x * amplitude(torch.stack([half, -half], dim=1))[..., None]


def width(x: Tensor, factor: Tensor, noise: Noise) -> Tensor:
    """Scales the side signal: 0 is mono, 1 changes nothing."""
    middle = x.mean(dim=1, keepdim=True)
    return middle + (x - middle) * factor[:, None, None]


def random_eq(x: Tensor, depth: Tensor, noise: Noise) -> Tensor:
    """A smooth random frequency response: 10 points from 20 Hz to Nyquist, normal with ``depth`` dB, on a log axis."""
    points = 10
    samples = x.shape[-1]
    curve = noise.normal(points) * depth[:, None]
    frequencies = torch.arange(samples // 2 + 1, device=x.device) * (SAMPLE_RATE / samples)
    position = (frequencies.clamp_min(20) / 20).log() / math.log(SAMPLE_RATE / 2 / 20) * (points - 1)
    left = position.long().clamp_max(points - 2)
    weight = (1 - torch.cos(math.pi * (position - left))) / 2  # raised cosine: no corners in the response
    response = curve[:, left] * (1 - weight) + curve[:, left + 1] * weight
    return torch.fft.irfft(torch.fft.rfft(x) * amplitude(response)[:, None], n=samples)


def reverb(x: Tensor, seconds: Tensor, wet: Tensor, noise: Noise) -> Tensor:
    """Adds exponentially decaying noise as a room: ``seconds`` to decay by 60 dB, ``wet`` dB relative to the dry sound.

    Polack's stochastic model of late reverberation; the two channels get independent tails.
    """
    samples = x.shape[-1]
    length = int(float(seconds.max()) * SAMPLE_RATE)
    time = torch.arange(length, device=x.device) / SAMPLE_RATE
    tail = noise.normal(x.shape[1], length) * torch.exp(-math.log(1000) * time / seconds[:, None, None])
    size = fast_length(samples + length)
    wet_signal = torch.fft.irfft(torch.fft.rfft(x, n=size) * torch.fft.rfft(tail, n=size), n=size)[..., :samples]
    return keep_level(x + keep_level(wet_signal, x) * amplitude(wet)[:, None, None], x)


def distortion(x: Tensor, drive: Tensor, bias: Tensor, noise: Noise) -> Tensor:
    """Soft clipping by tanh, ``drive`` dB above the crop's RMS; ``bias`` (0 to 1) adds even harmonics."""
    scaled = x / rms(x).clamp_min(1e-8) * amplitude(drive)[:, None, None] / 4
    offset = bias[:, None, None]
    return keep_level(torch.tanh(scaled + offset) - torch.tanh(offset), x)


def speed(x: Tensor, ratio: Tensor, samples: int) -> Tensor:
    """Plays faster (``ratio`` > 1) or slower, pitch and time together: `(batch, channels, n)` to `(…, samples)`.

    Resampled in the frequency domain; ``n`` must be at least ``samples · ratio``.
    """
    out = x.new_empty(*x.shape[:2], samples)
    for row, factor in enumerate(ratio.tolist()):
        source = min(fast_length(round(samples * factor)), x.shape[-1])
        spectrum = torch.fft.rfft(x[row, :, :source])[:, : samples // 2 + 1]
        out[row] = torch.fft.irfft(spectrum, n=samples) * (samples / source)
    return out


def fast_length(samples: int) -> int:
    """The next length whose only prime factors are 2, 3 and 5, for which FFTs are fast."""
    best = 2 ** math.ceil(math.log2(samples))
    for fives in range(8):
        for threes in range(12):
            factor = 5**fives * 3**threes
            if factor < best:
                best = min(best, factor * 2 ** max(0, math.ceil(math.log2(samples / factor))))
    return best


def seeds_of(crop_seeds: Sequence[int], *path: int) -> list[int]:
    """Seeds that depend on the crop's seed and on ``path`` (which stem, which effect)."""
    return [int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1) for seed in crop_seeds]
