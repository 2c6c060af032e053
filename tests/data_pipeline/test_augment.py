"""Every augmentation does what its name says, to an amount that its value says."""

import math

import numpy as np
import pytest
import torch

from frame_transformer.data import augment
from frame_transformer.data.augment import Noise

from .conftest import RATE

SAMPLES = 1 << 16
NOISE = Noise([1, 2], torch.device("cpu"))


def value(number: float) -> torch.Tensor:
    return torch.full((2,), number)


def tone(frequency: float, samples: int = SAMPLES) -> torch.Tensor:
    time = torch.arange(samples) / RATE
    sound = 0.3 * torch.stack([torch.sin(2 * math.pi * frequency * time), torch.cos(2 * math.pi * frequency * time)])
    return sound.expand(2, 2, samples).clone()


def white(samples: int = SAMPLES) -> torch.Tensor:
    return 0.1 * torch.randn(2, 2, samples, generator=torch.Generator().manual_seed(0))


def level(x: torch.Tensor) -> float:
    return 20 * math.log10(float(x.square().mean().sqrt()) + 1e-12)


def frequency(x: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(x[0] * torch.hann_window(x.shape[-1])).abs()
    return float(spectrum.argmax()) * RATE / x.shape[-1]


def test_channels():
    x = white()
    assert torch.equal(augment.channel_swap(x, NOISE)[:, 0], x[:, 1])
    assert torch.equal(augment.polarity(x, NOISE), -x)
    silent = (augment.channel_drop(x, NOISE).abs().amax(dim=2) == 0).sum(dim=1)
    assert silent.tolist() == [1, 1]
    mono = augment.width(x, value(0.0), NOISE)
    assert torch.allclose(mono[:, 0], mono[:, 1])
    torch.testing.assert_close(augment.width(x, value(1.0), NOISE), x)
    balanced = augment.balance(x, value(6.0), NOISE)
    assert level(balanced[:, 0]) - level(x[:, 0]) == pytest.approx(3, abs=0.01)
    assert level(balanced[:, 1]) - level(x[:, 1]) == pytest.approx(-3, abs=0.01)


def test_random_eq_has_the_depth_asked_for():
    impulse = torch.zeros(2, 2, SAMPLES)
    impulse[..., 0] = 1
    torch.testing.assert_close(augment.random_eq(impulse, value(0.0), NOISE), impulse, atol=1e-5, rtol=0)
    many = Noise(range(200), torch.device("cpu"))
    points = augment.random_eq(impulse[:1].expand(200, 2, SAMPLES), torch.full((200,), 4.0), many)
    response = 20 * torch.fft.rfft(points[:, 0]).abs().log10()
    assert float(response[:, -1].std()) == pytest.approx(4, abs=0.8)


def test_reverb_rings_and_decays():
    impulse = torch.zeros(2, 2, SAMPLES)
    impulse[..., 1000] = 1
    wet = augment.reverb(impulse, value(0.5), value(-6.0), NOISE)
    assert level(wet) == pytest.approx(level(impulse), abs=0.01)
    assert float(wet[..., :990].abs().max()) < 1e-5
    early, late = wet[..., 1100:3300], wet[..., 1100 + RATE // 4 : 3300 + RATE // 4]
    assert level(early) - level(late) == pytest.approx(30, abs=2)  # half of the 0.5 s to -60 dB


def test_distortion_adds_harmonics():
    x = tone(1000)
    odd = augment.distortion(x, value(12.0), value(0.0), NOISE)
    both = augment.distortion(x, value(12.0), value(0.5), NOISE)
    assert level(odd) == pytest.approx(level(x), abs=0.01)

    def harmonic(y, number):
        spectrum = torch.fft.rfft(y[0, 0] * torch.hann_window(SAMPLES)).abs()
        bin_number = round(1000 * number * SAMPLES / RATE)
        return float(spectrum[bin_number - 3 : bin_number + 4].max() / spectrum.max())

    assert harmonic(x, 3) < 1e-3
    assert harmonic(odd, 3) > 0.02
    assert harmonic(odd, 2) < 1e-3 < 0.02 < harmonic(both, 2)


def test_dynamics_narrows_and_widens_the_range():
    x = white()
    x[..., SAMPLES // 2 :] *= 0.1

    def step(y):
        return level(y[..., 5000:25000]) - level(y[..., -25000:-5000])

    assert step(augment.dynamics(x, value(-0.5), NOISE)) == pytest.approx(10, abs=0.5)
    assert step(augment.dynamics(x, value(0.3), NOISE)) == pytest.approx(26, abs=0.5)


def test_emphasis_and_its_inverse():
    x = white()
    bright, dull = augment.emphasis(x, value(0.6), NOISE), augment.emphasis(x, value(-0.6), NOISE)

    def tilt(y):
        power = torch.fft.rfft(y).abs().square().mean(dim=(0, 1))
        return 10 * math.log10(power[-2000:].mean() / power[:2000].mean())

    assert tilt(bright) == pytest.approx(20 * math.log10(1.6 / 0.4), abs=0.8)
    assert tilt(dull) == pytest.approx(-20 * math.log10(1.6 / 0.4), abs=0.8)


def test_noise_in_the_spectrogram():
    x = tone(1000)
    for effect in (augment.multiplicative_noise, augment.phase_noise):
        torch.testing.assert_close(effect(x, value(0.0), NOISE), x, atol=1e-5, rtol=0)
        errors = [level(effect(x, value(amount), NOISE) - x) - level(x) for amount in (0.05, 0.2)]
        assert errors[1] - errors[0] == pytest.approx(12, abs=1)


def test_masks():
    masked = augment.time_mask(torch.ones(2, 2, SAMPLES), value(0.5), NOISE)
    assert float((masked == 0).float().mean()) <= 0.5 * RATE / SAMPLES + 0.01
    assert all(float((row == 0).float().mean()) > 0.05 for row in masked)
    banded = torch.fft.rfft(augment.frequency_mask(white(), value(1.0), NOISE)).abs()
    for row in banded:
        gone = torch.nonzero(row[0] < 1e-3).flatten()
        assert math.log2(float(gone[-1] / gone[0])) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("tempo", "pitch"), [(1.1, 1.1), (0.9, 0.9), (1.1, 1.0), (0.9, 1.0), (1.0, 1.12), (1.0, 0.89), (1.1, 1.2)]
)
def test_retime_keeps_level_and_moves_pitch(tempo, pitch):
    length = augment.retime_length(SAMPLES, tempo, pitch)
    y = augment.retime(tone(1000, length)[0], tempo, pitch, SAMPLES)
    assert y.shape == (2, SAMPLES)
    assert frequency(y) == pytest.approx(1000 * pitch, rel=0.017)
    for part in (y[:, :4000], y, y[:, -4000:]):
        assert level(part) == pytest.approx(level(tone(1000)), abs=0.3)


@pytest.mark.parametrize(("tempo", "pitch"), [(1.1, 1.1), (1.2, 1.0), (0.8, 1.0)])
def test_retime_moves_events(tempo, pitch):
    """A burst comes earlier by the tempo, and by the 1024 samples that the phase vocoder leaves out."""
    length = augment.retime_length(SAMPLES, tempo, pitch)
    x = torch.zeros(2, length)
    x[:, 40_000:44_000] = white(4_000)[0]
    y = augment.retime(x, tempo, pitch, SAMPLES).square().sum(dim=0)
    centre = float((y * torch.arange(SAMPLES)).sum() / y.sum())
    left_out = 0 if tempo == pitch else 1024
    assert centre == pytest.approx((42_000 - left_out) / tempo, rel=0.02)


def test_stretching_keeps_the_stereo_image():
    """The right channel is the left one at half the level; it stays so."""
    mono = white(augment.retime_length(SAMPLES, 1.1, 1.0))[0, :1]
    y = augment.retime(torch.cat([mono, mono / 2]), 1.1, 1.0, SAMPLES)
    torch.testing.assert_close(y[1], y[0] / 2, atol=1e-5, rtol=0)


def test_fast_lengths():
    for samples in (1, 7, 11, 264_600, 300_001):
        length = augment.fast_length(samples)
        assert samples <= length <= max(samples * 1.016, samples + 1)
        for prime in (2, 3, 5, 7):
            while length % prime == 0:
                length //= prime
        assert length == 1


def test_noise_belongs_to_the_crop_not_to_the_batch():
    both, second = Noise([5, 6], torch.device("cpu")), Noise([6], torch.device("cpu"))
    assert torch.equal(both.normal(3, 4)[1:], second.normal(3, 4))
    assert not torch.equal(both.uniform(8)[0], both.uniform(8)[1])
    seeds = [augment.seeds_of([9], stem, effect)[0] for stem in range(3) for effect in range(20)]
    assert len(set(seeds)) == 60
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert np.all(np.array(seeds) == [augment.seeds_of([9], s, e)[0] for s in range(3) for e in range(20)])
