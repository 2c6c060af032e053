import numpy as np
import pytest

from frame_transformer.evaluation import oracle_vocals, utterance_sdr

from .conftest import make_stems


@pytest.mark.parametrize("kind", ["irm", "ibm"])
def test_oracle_is_far_better_than_the_mixture(kind):
    stems = make_stems(3, seconds=1)
    vocals, rest = stems["vocals"], stems["bass"] + stems["other"]
    estimate = oracle_vocals(kind, vocals + rest, vocals, rest, 2048, 1024)
    assert estimate.shape == vocals.shape
    assert utterance_sdr(vocals, estimate) > utterance_sdr(vocals, vocals + rest) + 10


def test_ratio_mask_of_equal_magnitudes_is_a_half(noise):
    signal = noise(1, 9000)
    np.testing.assert_allclose(oracle_vocals("irm", signal, signal, -signal, 512, 256), signal / 2, atol=1e-5)


def test_song_shorter_than_a_window(noise):
    signal = noise(2, 300)
    assert oracle_vocals("irm", signal, signal, signal, 2048, 1024).shape == (2, 300)


def test_the_end_of_a_song_that_is_no_whole_hop_stays_in_bounds():
    random = np.random.default_rng(1)
    vocals, rest = random.standard_normal((2, 1, 8 * 256 - 1)).astype(np.float32)
    estimate = oracle_vocals("irm", vocals + rest, vocals, rest, 512, 256)
    assert np.abs(estimate).max() < 2 * np.abs(vocals + rest).max()
