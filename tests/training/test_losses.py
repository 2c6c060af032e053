"""The terms of the loss have the values that their definitions give on inputs simple enough to reckon."""

import math

import pytest
import torch

from frame_transformer.models import SignalConfig, V1Config, WindowConfig
from frame_transformer.training import LossWeights, Supervised
from frame_transformer.training.losses import error_ratio, multi_resolution_stft, relative_distance


@pytest.fixture
def noise():
    return torch.randn(2, 2, 8192, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def spectra():
    torch.manual_seed(0)
    return torch.randn(3, 2, 16, 8, dtype=torch.complex64)


def test_error_ratio_is_the_sdr(spectra):
    """An error of half the mixture is −6 dB of it; a perfect mask counts as −30 dB; loudness does not matter."""
    assert error_ratio(0.5 * spectra, torch.zeros_like(spectra), spectra) == pytest.approx(math.log10(0.25 + 1e-3))
    assert error_ratio(spectra, spectra, spectra) == pytest.approx(-3)
    level = torch.tensor([1.0, 10.0, 100.0])[:, None, None, None]
    assert error_ratio(0.9 * level * spectra, level * spectra, level * spectra) == pytest.approx(math.log10(0.011))


def test_relative_distance_counts_both_stems(spectra):
    """Nothing taken from a mixture that is all voice: all of it is wrong in both stems."""
    silence = torch.zeros_like(spectra)
    assert relative_distance(spectra, silence, spectra, spectra) == pytest.approx(2)
    assert relative_distance(0.75 * spectra, 0.5 * spectra, 0.5 * spectra, spectra) == pytest.approx(0.5)
    assert relative_distance(silence, silence, silence, silence) == 0


def test_multi_resolution_of_twice_the_target(noise):
    assert multi_resolution_stft(noise, noise) == 0
    assert multi_resolution_stft(2 * noise, noise) == pytest.approx(1 + math.log(2), rel=1e-3)


def test_terms_and_their_sum(noise):
    """A mask of 0.75 where instrumental and vocals are equal."""
    weights = LossWeights(instrumental=1, vocals=2, multi_resolution=3, waveform=4, sdr=5, relative=6)
    network = V1Config(
        SignalConfig(n_fft=512, hop_length=256), WindowConfig(40, 20), widths=(1, 2, 4, 6, 8, 10), heads=2, expansion=1
    )
    stage = Supervised(network, loss=weights).eval()
    batch = {"mixture": 2 * noise, "instrumental": noise, "vocals": noise}
    mixture = stage.read(batch)
    losses = stage.mask_losses(torch.full_like(mixture.magnitudes, 0.75), mixture, batch)
    magnitudes = mixture.magnitudes
    assert magnitudes.amax((1, 2, 3)).tolist() == pytest.approx([1, 1])
    assert losses["instrumental"] == pytest.approx(magnitudes.mean() / 4)
    assert losses["vocals"] == pytest.approx(magnitudes.mean() / 4)
    assert losses["sdr"] == pytest.approx(math.log10(1 / 16 + 1e-3))
    assert losses["relative"] == pytest.approx(0.5)
    # The Nyquist bin, which goes to the vocals, is a 257th of the noise; hence the tolerances.
    assert losses["multi_resolution"] == pytest.approx(0.5 + math.log(1.5), rel=0.05)
    assert losses["waveform"] == pytest.approx(0.25 * math.sqrt(2 / math.pi), rel=0.05)
    assert losses["sdr_vocals"] == losses["sdr_instrumental"] == pytest.approx(10 * math.log10(4), rel=1e-3)
    total = sum(getattr(weights, name) * losses[name] for name in losses if hasattr(weights, name))
    assert losses["loss"] == pytest.approx(total)
