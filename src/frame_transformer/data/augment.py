"""Augmentations as batched torch operations on `(batch, channels, samples)`.

An effect takes the audio, one tensor `(batch,)` for each range of its `Effect`, and a `Noise` source; it returns audio
of the same shape. `retime` changes the length and works crop by crop. Whether and how strongly they apply is VoxAug's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .reading import SAMPLE_RATE

STFT_SIZE = 2048
STFT_HOP = 512
MARGIN = 512
LONGEST_REVERB = 4 * SAMPLE_RATE


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

    Polack's stochastic model of late reverberation; the two channels get independent tails, cut off after 4 s.
    """
    samples = x.shape[-1]
    length = min(int(float(seconds.max()) * SAMPLE_RATE), LONGEST_REVERB)
    time = torch.arange(length, device=x.device) / SAMPLE_RATE
    # Always the longest noise: another length would be other noise, and the length depends on the batch.
    tail = noise.normal(x.shape[1], LONGEST_REVERB)[..., :length] * torch.exp(
        -math.log(1000) * time / seconds[:, None, None]
    )
    size = fast_length(samples + length)
    wet_signal = torch.fft.irfft(torch.fft.rfft(x, n=size) * torch.fft.rfft(tail, n=size), n=size)[..., :samples]
    return keep_level(x + keep_level(wet_signal, x) * amplitude(wet)[:, None, None], x)


def distortion(x: Tensor, drive: Tensor, bias: Tensor, noise: Noise) -> Tensor:
    """Soft clipping by tanh, ``drive`` dB above the crop's RMS; ``bias`` (0 to 1) adds even harmonics."""
    scaled = x / rms(x).clamp_min(1e-8) * amplitude(drive)[:, None, None] / 4
    offset = bias[:, None, None]
    return keep_level(torch.tanh(scaled + offset) - torch.tanh(offset), x)


def dynamics(x: Tensor, exponent: Tensor, noise: Noise) -> Tensor:
    """Compresses (``exponent`` < 0) or expands the dynamic range: gain = (envelope / mean level) ** exponent.

    The envelope is the RMS of both channels over 50 ms; the gain stays within 20 dB.
    """
    energy = x.square().mean(dim=1, keepdim=True)
    step = SAMPLE_RATE // 100
    envelope = functional.avg_pool1d(energy, 5 * step, stride=step, padding=2 * step, count_include_pad=False)
    envelope = functional.interpolate(envelope, size=x.shape[-1], mode="linear")
    relative = (envelope / energy.mean(dim=2, keepdim=True).clamp_min(1e-12)).clamp(1e-4, 1e4)
    return keep_level(x * (relative ** (exponent[:, None, None] / 2)).clamp(0.1, 10), x)


def emphasis(x: Tensor, coefficient: Tensor, noise: Noise) -> Tensor:
    """Pre-emphasis 1 - a z^-1 for a coefficient a > 0, its inverse (de-emphasis) with -a for a < 0."""
    samples = x.shape[-1]
    delay = torch.exp(torch.arange(samples // 2 + 1, device=x.device) * (-2j * math.pi / samples))
    response = 1 - coefficient.abs()[:, None] * delay
    response = torch.where(coefficient[:, None] > 0, response, 1 / response)
    return keep_level(torch.fft.irfft(torch.fft.rfft(x) * response[:, None], n=samples), x)


def multiplicative_noise(x: Tensor, deviation: Tensor, noise: Noise) -> Tensor:
    """Every bin of the spectrogram, alike in both channels, times 1 + normal noise of that standard deviation."""
    spectrum = _stft(x)
    factor = 1 + noise.normal(*spectrum.shape[-2:]) * deviation[:, None, None]
    return _istft(spectrum * factor[:, None], x.shape[-1])


def phase_noise(x: Tensor, deviation: Tensor, noise: Noise) -> Tensor:
    """Turns the phase of every bin of the spectrogram, alike in both channels, by normal noise in radians."""
    spectrum = _stft(x)
    turn = noise.normal(*spectrum.shape[-2:]) * deviation[:, None, None]
    return _istft(spectrum * torch.polar(torch.ones_like(turn), turn)[:, None], x.shape[-1])


def time_mask(x: Tensor, seconds: Tensor, noise: Noise) -> Tensor:
    """Silences one span of that length, faded over 10 ms (after SpecAugment, Park et al. 2019, section 2)."""
    samples = x.shape[-1]
    half = seconds * SAMPLE_RATE / 2
    centre = noise.uniform(1)[:, 0] * samples
    distance = (torch.arange(samples, device=x.device) - centre[:, None]).abs() - half[:, None]
    return x * (distance / (SAMPLE_RATE / 100)).clamp(0, 1)[:, None]


def frequency_mask(x: Tensor, octaves: Tensor, noise: Noise) -> Tensor:
    """Takes out one band of that width, centred log-uniformly from 60 Hz to 16 kHz (after SpecAugment)."""
    samples = x.shape[-1]
    frequencies = torch.arange(samples // 2 + 1, device=x.device) * (SAMPLE_RATE / samples)
    centre = math.log2(60) + noise.uniform(1) * math.log2(16000 / 60)
    distance = (frequencies.clamp_min(1).log2() - centre).abs() - octaves[:, None] / 2
    return torch.fft.irfft(torch.fft.rfft(x) * (distance * 10).clamp(0, 1)[:, None], n=samples)


def retime(x: Tensor, tempo: float, pitch: float, samples: int) -> Tensor:
    """Changes the tempo and pitch of one crop, both as ratios: `(channels, n)` to `(channels, samples)`.

    ``n`` must be at least `retime_length`. Equal ratios resample only; others go through the phase vocoder,
    which begins 1024 samples late.
    """
    rate = tempo / pitch
    if rate == 1:
        return resample(x, pitch, samples)
    return phase_vocoder(resample(x, pitch, round(samples * rate) + 2 * STFT_SIZE), rate, samples)


def retime_length(samples: int, tempo: float, pitch: float) -> int:
    """How many samples `retime` needs to make ``samples``."""
    if tempo == pitch:
        return _resample_source(samples, pitch)
    return _resample_source(round(samples * tempo / pitch) + 2 * STFT_SIZE, pitch)


def resample(x: Tensor, ratio: float, samples: int) -> Tensor:
    """Plays ``ratio`` times as fast, pitch and time together, in the frequency domain: `(…, n)` to `(…, samples)`.

    The ratio met is up to 1.6 % higher, because only lengths with fast Fourier transforms are used.
    """
    if ratio == 1:
        return x[..., :samples]
    # The transform takes the sound for periodic; the jump from its end to its start rings in the margins, cut off here.
    length, source = fast_length(samples + 2 * MARGIN), _resample_source(samples, ratio)
    spectrum = torch.fft.rfft(x[..., :source])[..., : length // 2 + 1]
    return torch.fft.irfft(spectrum, n=length)[..., MARGIN : MARGIN + samples] * (length / source)


def _resample_source(samples: int, ratio: float) -> int:
    return samples if ratio == 1 else fast_length(round(fast_length(samples + 2 * MARGIN) * ratio))


def phase_vocoder(x: Tensor, rate: float, samples: int) -> Tensor:
    """Plays ``rate`` times as fast at the same pitch: `(channels, n)` to `(channels, samples)`.

    Flanagan & Golden 1966, in the form of Laroche & Dolson 1999 without phase locking. The phase is followed on the
    sum of the channels and all are turned alike, which keeps the stereo image.
    """
    spectrum = _stft(x)
    middle = spectrum.sum(dim=0)
    frames = samples // STFT_HOP + 1
    # The frames at both ends hold mirrored sound, whose phases would stay wrong: begin after them.
    position = STFT_SIZE // STFT_HOP // 2 + torch.arange(frames, device=x.device) * rate
    left = position.long()
    weight = position - left
    advance = (middle[:, left + 1] * middle[:, left].conj()).angle()
    angle = middle.angle()[:, left]
    phase = torch.cumsum(torch.cat([angle[:, :1], advance[:, :-1]], dim=1), dim=1)
    magnitude = spectrum.abs()
    gain = ((magnitude[..., left + 1] / magnitude[..., left].clamp_min(1e-12)) - 1) * weight + 1
    turn = torch.polar(torch.ones_like(angle), phase - angle)
    return _istft(spectrum[..., left] * gain * turn, samples)


def _stft(x: Tensor) -> Tensor:
    window = torch.hann_window(STFT_SIZE, device=x.device)
    flat = torch.stft(x.reshape(-1, x.shape[-1]), STFT_SIZE, STFT_HOP, window=window, return_complex=True)
    return flat.reshape(*x.shape[:-1], *flat.shape[1:])


def _istft(spectrum: Tensor, samples: int) -> Tensor:
    window = torch.hann_window(STFT_SIZE, device=spectrum.device)
    flat = torch.istft(spectrum.reshape(-1, *spectrum.shape[-2:]), STFT_SIZE, STFT_HOP, window=window, length=samples)
    return flat.reshape(*spectrum.shape[:-2], samples)


@lru_cache
def fast_length(samples: int) -> int:
    """The next length without prime factors above 7, for which Fourier transforms are fast."""
    best = 2 ** math.ceil(math.log2(samples))
    for sevens, fives, threes in product(range(7), range(8), range(12)):
        odd = 7**sevens * 5**fives * 3**threes
        if odd < best:
            best = min(best, odd * 2 ** max(0, math.ceil(math.log2(samples / odd))))
    return best


def seeds_of(crop_seeds: Sequence[int], *path: int) -> list[int]:
    """Seeds that depend on the crop's seed and on ``path`` (which stem, which effect)."""
    return [int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1) for seed in crop_seeds]
