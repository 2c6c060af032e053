"""Batched audio augmentations on `(batch, channels, samples)`.

An effect takes the audio, one tensor `(batch,)` for each range of its `Effect`, and a `Noise` source; it returns audio
of the same shape. Effects on a whole mix take its stems, `(batch, stems, channels, samples)`, and apply the same
linear operation to each, so that the stems still add up to the mixture. `retime` changes the length and processes one
crop at a time. VoxAug decides whether and how strongly effects are applied.
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
SHORTEST_SLICE = SAMPLE_RATE // 20
INTERVALS = (-12, -9, -8, -5, -4, -3, 3, 4, 5, 7, 8, 9, 12)


@dataclass(frozen=True)
class Noise:
    """Random numbers for each crop of a batch; those of a crop do not depend on the rest of the batch."""

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
    """Converts a level in dB to an amplitude ratio."""
    return 10 ** (decibels / 20)


def rms(x: Tensor) -> Tensor:
    """Root mean square over channels and samples: `(batch, 1, 1)`."""
    return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) / math.sqrt(x[0].numel())


def keep_level(changed: Tensor, original: Tensor) -> Tensor:
    """``changed`` scaled to the RMS of ``original``."""
    return changed * (rms(original) / rms(changed).clamp_min(1e-8))


def polarity(x: Tensor, noise: Noise) -> Tensor:
    """Inverts the waveform."""
    return -x


def channel_swap(x: Tensor, noise: Noise) -> Tensor:
    """Swaps left and right."""
    return x.flip(1)


def channel_drop(x: Tensor, noise: Noise) -> Tensor:
    """Silences the left or the right channel."""
    kept = (noise.uniform(1) < 0.5).to(x.dtype)
    return x * torch.stack([kept, 1 - kept], dim=1)


def balance(x: Tensor, decibels: Tensor, noise: Noise | None = None) -> Tensor:
    """Pans to the left by a level difference of ``decibels`` (to the right if negative)."""
    half = decibels / 2
    return x * amplitude(torch.stack([half, -half], dim=1))[..., None]


def width(x: Tensor, factor: Tensor, noise: Noise) -> Tensor:
    """Scales the side signal of a stem, or of all stems of a mix, by ``factor``: 0 gives mono, 1 changes nothing."""
    middle = x.mean(dim=-2, keepdim=True)
    return middle + (x - middle) * factor.view(-1, *[1] * (x.ndim - 1))


def random_eq(x: Tensor, depth: Tensor, noise: Noise) -> Tensor:
    """Applies a smooth random response: normal with ``depth`` dB at 10 points from 20 Hz to Nyquist on a log axis."""
    points = 10
    curve = noise.normal(points) * depth[:, None]
    between = _between_points(points, x.shape[-1], x.device)
    return _filtered(x, amplitude(torch.stack([crop @ between for crop in curve])))


@lru_cache(maxsize=4)
def _between_points(points: int, samples: int, device: torch.device) -> Tensor:
    """Interpolation weights of points from 20 Hz to Nyquist for each bin: `(points, bins)`."""
    frequencies = _frequencies(samples, device)
    position = (frequencies.clamp_min(20) / 20).log() / math.log(SAMPLE_RATE / 2 / 20) * (points - 1)
    distance = (position - torch.arange(points, device=device)[:, None]).abs().clamp_max(1)
    return (1 + torch.cos(math.pi * distance)) / 2  # raised cosine: no corners in the response


def reverb(x: Tensor, seconds: Tensor, wet: Tensor, noise: Noise) -> Tensor:
    """Adds reverberation that decays by 60 dB in ``seconds``, at ``wet`` dB relative to the dry sound.

    Polack's stochastic model of late reverberation; exponentially decaying noise, independent in both channels,
    for at most 4 s.
    """
    return room(x[:, None], seconds, wet, noise)[:, 0]


def chop(x: Tensor, tempo: Tensor, noise: Noise) -> Tensor:
    """Cuts the sound into eighths or sixteenths at ``tempo`` (beats per minute), like a sampler.

    A slice repeats the one before (probability 0.35), is played backwards (0.2) or is silent (0.15). Cuts are faded
    over 3 ms.
    """
    samples, fade = x.shape[-1], SAMPLE_RATE * 3 // 1000
    slices = samples // SHORTEST_SLICE + 1
    repeated, backwards, silent, sixteenth = noise.uniform(4, slices + 1).unbind(1)
    parts = torch.where(sixteenth[:, 0] < 0.5, 4, 2)
    length = (SAMPLE_RATE * 60 / tempo / parts).long().clamp_min(SHORTEST_SLICE)[:, None]
    number = torch.arange(slices + 1, device=x.device)
    source = torch.where(repeated < 0.35, 0, number).cummax(dim=1).values
    backwards, silent = (backwards < 0.2).gather(1, source), silent < 0.15
    plain = ~(backwards | silent)
    joined = plain[:, 1:] & plain[:, :-1] & (source[:, 1:] == source[:, :-1] + 1)
    edge = torch.ones_like(plain[:, :1])
    starts_cut, ends_cut = torch.cat([~edge, ~joined], 1), torch.cat([~joined, edge], 1)

    time = torch.arange(samples, device=x.device).expand(len(x), -1)
    slice_, offset = time // length, time % length
    from_end = length - 1 - offset
    index = source.gather(1, slice_) * length + torch.where(backwards.gather(1, slice_), from_end, offset)
    gain = torch.where(starts_cut.gather(1, slice_), offset, fade).minimum(
        torch.where(ends_cut.gather(1, slice_), from_end, fade)
    )
    gain = (gain / fade).clamp_max(1) * ~silent.gather(1, slice_) * (index < samples)
    return x.gather(2, index.clamp_max(samples - 1)[:, None].expand_as(x)) * gain[:, None]


def telephone(x: Tensor, low: Tensor, high: Tensor, noise: Noise) -> Tensor:
    """Band-pass from ``low`` to ``high`` (Hz) with slopes of 24 dB per octave, at unchanged level."""
    return keep_level(_filtered(x, _band(x, low, high, order=8)), x)


def harmony(x: Tensor, decibels: Tensor, noise: Noise) -> Tensor:
    """Adds the voice a third, fourth, fifth, sixth or octave higher or lower, at ``decibels`` relative to the original.

    The added voice is a mono copy of the original, panned randomly.
    """
    choice, place = noise.uniform(2).unbind(1)
    ratios = [2 ** (INTERVALS[number] / 12) for number in (choice * len(INTERVALS)).long().tolist()]
    samples = x.shape[-1]
    missing = max(retime_length(samples, 1, 2 ** (interval / 12)) for interval in INTERVALS) - samples
    longer = functional.pad(x.mean(dim=1, keepdim=True), (0, missing))
    voices = torch.stack([retime(crop, 1, ratio, samples) for crop, ratio in zip(longer, ratios, strict=True)])
    sides = torch.stack([1 - place, place], dim=1).sqrt()[..., None]
    return keep_level(x + keep_level(voices * sides, x) * amplitude(decibels)[:, None, None], x)


def doubling(x: Tensor, seconds: Tensor, cents: Tensor, decibels: Tensor, noise: Noise) -> Tensor:
    """Adds the voice as if it were sung again: delayed by about ``seconds``, its pitch drifting by up to ``cents``.

    The copies, at ``decibels`` relative to the original, differ between left and right.
    """
    late, rate, phase = noise.uniform(3, x.shape[1]).unbind(1)
    return _with_copy(x, seconds[:, None] * (0.8 + 0.4 * late), cents, 0.3 + 0.5 * rate, phase, decibels)


def chorus(x: Tensor, seconds: Tensor, cents: Tensor, decibels: Tensor, noise: Noise) -> Tensor:
    """`doubling` with a faster pitch modulation, 0.8 to 3 Hz, at the same rate but another phase left and right."""
    rate, phase = noise.uniform(2, x.shape[1]).unbind(1)
    return _with_copy(x, seconds[:, None], cents, 0.8 + 2.2 * rate[:, :1], phase, decibels)


def flanger(x: Tensor, seconds: Tensor, decibels: Tensor, noise: Noise) -> Tensor:
    """Adds a copy, the same in both channels, whose delay sweeps from 0 to ``seconds`` and back at 0.1 to 0.6 Hz."""
    rate, phase = noise.uniform(2, 1).unbind(1)
    return _with_copy(x, seconds[:, None] / 2, None, 0.1 + 0.5 * rate, phase, decibels)


def echo(x: Tensor, tempo: Tensor, feedback: Tensor, wet: Tensor, noise: Noise) -> Tensor:
    """Repeats in time with ``tempo`` (beats per minute): an eighth, a dotted eighth or a quarter apart.

    The first repeat is at ``wet`` dB relative to the original; each further one is ``feedback`` times the one before,
    through the same band-pass. Half of the echoes alternate between left and right.
    """
    samples = x.shape[-1]
    note, sides, low, high = noise.uniform(4).unbind(1)
    beats = torch.tensor([0.5, 0.75, 1.0], device=x.device)[(3 * note).long()]
    delay = (SAMPLE_RATE * 60 / tempo * beats).long()
    crosses = (sides < 0.5)[:, None, None]
    sent = _filtered(x, _band(x, 100 * 4**low, 2000 * 4**high, order=4))
    sent = torch.where(crosses, sent.mean(dim=1, keepdim=True), sent) * amplitude(wet)[:, None, None]
    # All repeats are in both channels, or odd ones on the left and even ones on the right.
    left_right = torch.tensor([[1.0, 0.0], [0.0, 1.0]], device=x.device)[..., None]
    result = x.clone()
    for row, step in enumerate(delay.tolist()):
        for number, start in enumerate(range(step, samples, step)):
            repeat = sent[row, :, : samples - start] * feedback[row] ** number
            result[row, :, start:] += torch.where(crosses[row], left_right[number % 2], 1.0) * repeat
    return keep_level(result, x)


def distortion(x: Tensor, drive: Tensor, bias: Tensor, noise: Noise) -> Tensor:
    """Soft clipping by tanh, ``drive`` dB above the crop's RMS; ``bias`` (0 to 1) adds even harmonics.

    The bias turns changes of level into inaudibly low frequencies, which are removed, as by the coupling capacitors of
    an amplifier.
    """
    scaled = x / rms(x).clamp_min(1e-8) * amplitude(drive)[:, None, None] / 4
    offset = bias[:, None, None]
    clipped = torch.tanh(scaled + offset) - torch.tanh(offset)
    audible = (_frequencies(x.shape[-1], x.device) / 20).clamp_max(1).square()
    return keep_level(_filtered(clipped, audible.expand(len(x), -1)), x)


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
    delay = torch.exp(_frequencies(x.shape[-1], x.device) * (-2j * math.pi / SAMPLE_RATE))
    response = 1 - coefficient.abs()[:, None] * delay
    response = torch.where(coefficient[:, None] > 0, response, 1 / response)
    return keep_level(_filtered(x, response), x)


def multiplicative_noise(x: Tensor, deviation: Tensor, noise: Noise) -> Tensor:
    """Multiplies each bin of the spectrogram, alike in both channels, by 1 + normal noise of this ``deviation``."""
    spectrum = _stft(x)
    factor = 1 + noise.normal(*spectrum.shape[-2:]) * deviation[:, None, None]
    return _istft(spectrum * factor[:, None], x.shape[-1])


def phase_noise(x: Tensor, deviation: Tensor, noise: Noise) -> Tensor:
    """Rotates the phase of each bin of the spectrogram, alike in both channels, by normal noise (radians)."""
    spectrum = _stft(x)
    turn = noise.normal(*spectrum.shape[-2:]) * deviation[:, None, None]
    return _istft(spectrum * torch.polar(torch.ones_like(turn), turn)[:, None], x.shape[-1])


def time_mask(x: Tensor, seconds: Tensor, noise: Noise) -> Tensor:
    """Silences one span of ``seconds``, faded over 10 ms (after SpecAugment, Park et al. 2019, section 2)."""
    samples = x.shape[-1]
    half = seconds * SAMPLE_RATE / 2
    centre = noise.uniform(1)[:, 0] * samples
    distance = (torch.arange(samples, device=x.device) - centre[:, None]).abs() - half[:, None]
    return x * (distance / (SAMPLE_RATE / 100)).clamp(0, 1)[:, None]


def frequency_mask(x: Tensor, octaves: Tensor, noise: Noise) -> Tensor:
    """Removes one band of ``octaves``, centred log-uniformly from 60 Hz to 16 kHz (after SpecAugment)."""
    frequencies = _frequencies(x.shape[-1], x.device)
    centre = math.log2(60) + noise.uniform(1) * math.log2(16000 / 60)
    distance = (frequencies.clamp_min(1).log2() - centre).abs() - octaves[:, None] / 2
    return _filtered(x, (distance * 10).clamp(0, 1))


def room(stems: Tensor, seconds: Tensor, wet: Tensor, noise: Noise) -> Tensor:
    """`reverb` of a mix: all stems in the same room, with the ``wet`` level relative to the mixture."""
    tails = noise.normal(stems.shape[2], LONGEST_REVERB)
    wet_stems = torch.stack([_in_room(*one) for one in zip(stems, tails, seconds.tolist(), strict=True)])
    return keep_mix_level(stems + keep_mix_level(wet_stems, stems) * amplitude(wet)[:, None, None, None], stems)


def bus_compression(stems: Tensor, threshold: Tensor, ratio: Tensor, noise: Noise) -> Tensor:
    """Compresses the mixture, with the same gain for all stems: -(1 - 1 / ``ratio``) dB per dB above the threshold.

    ``threshold`` is in dB relative to the RMS of the mixture. Attack within 15 ms, release at 20 to 100 dB per second.
    """
    step = SAMPLE_RATE // 200
    mixture = stems.sum(dim=1)
    energy = functional.avg_pool1d(mixture.square().mean(dim=1, keepdim=True), step)
    level = 10 * (energy / rms(mixture).square().clamp_min(1e-12)).clamp_min(1e-12).log10()
    over = (level - threshold[:, None, None]).clamp_min(0) * (1 - 1 / ratio)[:, None, None]
    # The release is a straight line in dB from every peak; the highest of these lines is the gain reduction.
    fall = (20 * 5 ** noise.uniform(1, 1)) * step / SAMPLE_RATE * torch.arange(over.shape[-1], device=over.device)
    reduction = (over + fall).cummax(dim=2).values - fall
    reduction = functional.avg_pool1d(reduction, 3, stride=1, padding=1, count_include_pad=False)
    reduction = functional.interpolate(reduction, size=stems.shape[-1], mode="linear")
    return keep_mix_level(stems * amplitude(-reduction)[:, None], stems)


def coding(stems: Tensor, ratio: Tensor, noise: Noise) -> Tensor:
    """Simulates a low bit rate: rounds the mixture's magnitudes with noise ``ratio`` dB below their level.

    The level is that of the surrounding 350 Hz in the frame. Stems get the gain of the mixture in each bin.
    """
    hop, band = STFT_SIZE // 2, 16
    spectrum = _stft(stems, hop)
    magnitude = spectrum.sum(dim=1).abs()  # (batch, channels, frequency, time)
    power = magnitude[:, :, :-1].square().unflatten(2, (-1, band)).mean(dim=3)
    # The rounding error is step / √12 (RMS), and overlapping frames keep half of its power.
    step = (power * 24).sqrt().clamp_min(1e-9) / amplitude(ratio)[:, None, None, None]
    step = functional.pad(step.repeat_interleave(band, dim=2), (0, 0, 0, 1), mode="replicate")
    gain = (magnitude / step).round() * step / magnitude.clamp_min(1e-9)
    return _istft(spectrum * gain[:, None], stems.shape[-1], hop)


def lowpass(stems: Tensor, cutoff: Tensor, noise: Noise | None = None) -> Tensor:
    """Removes everything above ``cutoff`` (Hz); frequencies below 0.93 ``cutoff`` are unchanged."""
    frequencies = _frequencies(stems.shape[-1], stems.device)
    place = ((cutoff[:, None] - frequencies) / (0.07 * cutoff[:, None])).clamp(0, 1)
    return _filtered(stems, (1 - torch.cos(math.pi * place)) / 2)


def keep_mix_level(changed: Tensor, stems: Tensor) -> Tensor:
    """Scales ``changed`` stems by one factor, so that their mixture has the RMS of the mixture of ``stems``."""
    return changed * (rms(stems.sum(dim=1)) / rms(changed.sum(dim=1)).clamp_min(1e-8))[:, None]


def retime(x: Tensor, tempo: float, pitch: float, samples: int) -> Tensor:
    """Changes the tempo and pitch of one crop, both as ratios: `(channels, n)` to `(channels, samples)`.

    ``n`` must be at least `retime_length`. Equal ratios only need resampling. Others also use the phase vocoder,
    which starts 1024 samples late.
    """
    rate = tempo / pitch
    if rate == 1:
        return resample(x, pitch, samples)
    return phase_vocoder(resample(x, pitch, round(samples * rate) + 2 * STFT_SIZE), rate, samples)


def retime_length(samples: int, tempo: float, pitch: float) -> int:
    """The number of samples that `retime` needs for ``samples`` output samples."""
    if tempo == pitch:
        return _resample_source(samples, pitch)
    return _resample_source(round(samples * tempo / pitch) + 2 * STFT_SIZE, pitch)


def resample(x: Tensor, ratio: float, samples: int) -> Tensor:
    """Plays ``ratio`` times as fast, pitch and time together, in the frequency domain: `(…, n)` to `(…, samples)`.

    The actual ratio is up to 1.6 % higher, because only lengths with fast Fourier transforms are used.
    """
    if ratio == 1:
        return x[..., :samples]
    # The transform assumes a periodic signal. The jump from its end to its start rings in the margins, cut off here.
    length, source = fast_length(samples + 2 * MARGIN), _resample_source(samples, ratio)
    spectrum = torch.fft.rfft(x[..., :source])[..., : length // 2 + 1]
    return torch.fft.irfft(spectrum, n=length)[..., MARGIN : MARGIN + samples] * (length / source)


def _resample_source(samples: int, ratio: float) -> int:
    return samples if ratio == 1 else fast_length(round(fast_length(samples + 2 * MARGIN) * ratio))


def phase_vocoder(x: Tensor, rate: float, samples: int) -> Tensor:
    """Plays ``rate`` times as fast at the same pitch: `(channels, n)` to `(channels, samples)`.

    Flanagan & Golden 1966, in the form of Laroche & Dolson 1999 without phase locking. The phase is computed from
    the sum of the channels, and all are rotated alike, which preserves the stereo image.
    """
    spectrum = _stft(x)
    middle = spectrum.sum(dim=0)
    frames = samples // STFT_HOP + 1
    # The first frames contain reflected audio, whose wrong phases would persist, so start after them.
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


def _in_room(x: Tensor, noise: Tensor, seconds: float) -> Tensor:
    """The reflections of one crop `(…, channels, samples)` without the direct sound."""
    samples, length = x.shape[-1], min(int(seconds * SAMPLE_RATE), noise.shape[-1])
    time = torch.arange(length, device=x.device) / SAMPLE_RATE
    tail = noise[..., :length] * torch.exp(time * (-math.log(1000) / seconds))
    size = fast_length(samples + length)
    return torch.fft.irfft(torch.fft.rfft(x, n=size) * torch.fft.rfft(tail, n=size), n=size)[..., :samples]


def _with_copy(
    x: Tensor, seconds: Tensor, cents: Tensor | None, rate: Tensor, phase: Tensor, decibels: Tensor
) -> Tensor:
    """Adds a copy whose delay oscillates around ``seconds`` at ``rate`` (Hz), both `(batch, channels or 1)`.

    The depth is chosen to modulate the pitch by ``cents``; if they are None, it is the whole delay.
    """
    speed = 2 * math.pi * rate
    depth = seconds if cents is None else ((2 ** (cents / 1200) - 1)[:, None] / speed).minimum(seconds)
    time = torch.arange(x.shape[-1], device=x.device) / SAMPLE_RATE
    swing = torch.sin(speed[..., None] * time + 2 * math.pi * phase[..., None])
    copy = _delayed(x, (seconds[..., None] + depth[..., None] * swing) * SAMPLE_RATE)
    return keep_level(x + copy * amplitude(decibels)[:, None, None], x)


def _delayed(x: Tensor, delay: Tensor) -> Tensor:
    """Delays each sample by ``delay`` (samples, `(batch, channels or 1, samples)`) with cubic interpolation."""
    before = int(float(delay.max())) + 3
    padded = functional.pad(x, (before, 2))
    whole = delay.ceil()
    t = whole - delay
    left = torch.arange(before, before + x.shape[-1], device=x.device) - whole.long()
    a, b, c, d = (padded.gather(2, (left + step).expand_as(x)) for step in (-1, 0, 1, 2))
    # Catmull-Rom spline.
    return b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def _frequencies(samples: int, device: torch.device) -> Tensor:
    """The frequencies (Hz) of the bins at which `_filtered` filters a signal of ``samples``."""
    length = fast_length(samples)
    return torch.arange(length // 2 + 1, device=device) * (SAMPLE_RATE / length)


def _band(x: Tensor, low: Tensor, high: Tensor, order: int) -> Tensor:
    """Magnitude response of a Butterworth high-pass and low-pass, 3 ``order`` dB per octave: `(batch, bins)`."""
    frequencies = _frequencies(x.shape[-1], x.device).clamp_min(1)
    below, above = (low[:, None] / frequencies) ** order, (frequencies / high[:, None]) ** order
    return ((1 + below) * (1 + above)).rsqrt()


def _filtered(x: Tensor, response: Tensor) -> Tensor:
    """Filters `(batch, …, samples)` with a ``response`` `(batch, bins)` at `_frequencies`."""
    samples = x.shape[-1]
    length = fast_length(samples)  # a length with a prime factor of 127 takes three times as long
    response = response.reshape(len(x), *[1] * (x.ndim - 2), -1)
    return torch.fft.irfft(torch.fft.rfft(x, n=length) * response, n=length)[..., :samples]


def _stft(x: Tensor, hop: int = STFT_HOP) -> Tensor:
    window = torch.hann_window(STFT_SIZE, device=x.device)
    flat = torch.stft(x.reshape(-1, x.shape[-1]), STFT_SIZE, hop, window=window, return_complex=True)
    return flat.reshape(*x.shape[:-1], *flat.shape[1:])


def _istft(spectrum: Tensor, samples: int, hop: int = STFT_HOP) -> Tensor:
    window = torch.hann_window(STFT_SIZE, device=spectrum.device)
    flat = torch.istft(spectrum.reshape(-1, *spectrum.shape[-2:]), STFT_SIZE, hop, window=window, length=samples)
    return flat.reshape(*spectrum.shape[:-2], samples)


@lru_cache
def fast_length(samples: int) -> int:
    """The next length without prime factors above 7, for which the FFT is fast."""
    best = 2 ** math.ceil(math.log2(samples))
    for sevens, fives, threes in product(range(7), range(8), range(12)):
        odd = 7**sevens * 5**fives * 3**threes
        if odd < best:
            best = min(best, odd * 2 ** max(0, math.ceil(math.log2(samples / odd))))
    return best


def seeds_of(crop_seeds: Sequence[int], *path: int) -> list[int]:
    """Derives seeds from the crops' seeds and ``path`` (stem, effect)."""
    return [int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1) for seed in crop_seeds]
