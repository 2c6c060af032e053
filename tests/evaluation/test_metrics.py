import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from frame_transformer.evaluation import bleedless_and_fullness, si_sdr, utterance_sdr


@pytest.fixture
def pair(noise):
    reference = noise(2, 20_000)
    return reference, 0.7 * reference + 0.1 * noise(2, 20_001)[:, 1:]


def test_utterance_sdr_of_known_error(noise):
    reference = noise(2, 10_000)
    assert utterance_sdr(reference, 0.9 * reference) == pytest.approx(20, abs=1e-3)
    assert utterance_sdr(reference, np.zeros_like(reference)) == pytest.approx(0, abs=1e-6)


def test_utterance_sdr_of_a_perfect_estimate_is_bounded_by_the_challenges_epsilon(noise):
    reference = noise(2, 10_000)
    energy = float(np.sum(reference.astype(np.float64) ** 2))
    assert utterance_sdr(reference, reference) == pytest.approx(10 * math.log10((energy + 1e-7) / 1e-7))


def test_si_sdr_is_the_librarys(pair):
    reference, estimate = (torch.from_numpy(x).double().flatten() for x in pair)
    assert si_sdr(*pair) == pytest.approx(scale_invariant_signal_distortion_ratio(estimate, reference).item(), abs=1e-4)


def test_si_sdr_does_not_depend_on_scale(pair):
    reference, estimate = pair
    assert si_sdr(reference, 0.01 * estimate) == pytest.approx(si_sdr(reference, estimate), abs=1e-4)
    assert utterance_sdr(reference, 0.01 * estimate) != pytest.approx(utterance_sdr(reference, estimate), abs=1)


def test_bleedless_and_fullness_of_the_definition():
    """The values were computed by its formula with librosa 0.11 (mel filters, spectrogram, decibels)."""
    rng = np.random.default_rng(7)
    time = np.arange(88_200) / 44_100
    tones = np.stack([0.3 * np.sin(2 * np.pi * 440 * time), 0.3 * np.sin(2 * np.pi * 660 * time)])
    reference = tones + 0.01 * rng.standard_normal((2, len(time)))
    estimate = 0.7 * reference + 0.02 * rng.standard_normal((2, len(time)))
    estimate[:, :20_000] = 0.1 * reference[:, :20_000]
    values = bleedless_and_fullness(reference.astype(np.float32), estimate.astype(np.float32))
    assert values == pytest.approx((12.0146618, 6.3138128), abs=1e-4)


def test_perfect_estimate_is_bleedless_and_full(noise):
    reference = noise(2, 30_000)
    assert bleedless_and_fullness(reference, reference) == (100, 100)


def test_fullness_is_the_mean_loss_of_what_was_lost(noise):
    """Equal bins do not count: the first half is equal, half the level in the second is a loss of 6.02 dB."""
    reference = noise(2, 400_000)
    estimate = reference.copy()
    estimate[:, 200_000:] *= 0.5
    assert bleedless_and_fullness(reference, estimate)[1] == pytest.approx(100 / (1 + 6.02), abs=0.3)


@pytest.mark.parametrize("metric", [utterance_sdr, si_sdr, lambda r, e: bleedless_and_fullness(r, e)[0]])
def test_silent_reference_is_undefined(metric, noise):
    assert math.isnan(metric(np.zeros((2, 9000), np.float32), noise(2, 9000)))
