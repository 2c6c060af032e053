"""BSS Eval against museval, the reference implementation."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from frame_transformer.evaluation import BSSEval

from .conftest import make_stems


@pytest.fixture(scope="module")
def museval_metrics():
    """museval's metrics alone: importing the package would need an ffmpeg program."""
    folder = importlib.util.find_spec("museval").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(folder, "metrics.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def song(channels: int = 2, seconds: float = 2.5) -> tuple[np.ndarray, np.ndarray]:
    """(sources, channels, samples): references and estimates with interference, an echo and noise."""
    stems = make_stems(5, seconds, channels)
    vocals, rest = stems["vocals"], stems["drums"] + stems["bass"] + stems["other"]
    noise = np.random.default_rng(1).standard_normal(vocals.shape).astype(np.float32)
    estimates = [vocals + 0.2 * rest, 0.8 * rest + 0.1 * np.roll(vocals, 30, axis=1) + 0.002 * noise]
    return np.stack((vocals, rest)), np.stack(estimates)


def compare(module, references, estimates, window=44_100, hop=44_100):
    ours = BSSEval(references, window, hop)(estimates)
    theirs = module.bss_eval(
        references.transpose(0, 2, 1).astype(np.float64),
        estimates.transpose(0, 2, 1).astype(np.float64),
        window=window,
        hop=hop,
    )
    for name, values in zip(("sdr", "isr", "sir", "sar"), theirs[:4], strict=True):
        np.testing.assert_allclose(getattr(ours, name), values, rtol=0, atol=0.01, err_msg=name)
    return ours


def test_agrees_with_museval(museval_metrics):
    ratios = compare(museval_metrics, *song())
    assert ratios.sdr.shape == (2, 2)
    assert np.isfinite(ratios.sir).all()


def test_agrees_with_museval_on_mono_and_overlapping_frames(museval_metrics):
    assert compare(museval_metrics, *song(channels=1), window=30_000, hop=20_001).sdr.shape == (2, 5)


def test_agrees_with_museval_where_frames_are_silent(museval_metrics):
    references, estimates = song(channels=1, seconds=3)
    references[0, :, 40_000:100_000] = 0
    ratios = compare(museval_metrics, references, estimates)
    assert np.isnan(ratios.sdr).tolist() == [[False, True, False]] * 2


def test_agrees_with_museval_where_left_and_right_are_equal(museval_metrics):
    references, estimates = song(seconds=1.5)
    references[0, 1] = references[0, 0]
    compare(museval_metrics, references, estimates)


def test_song_shorter_than_a_frame(museval_metrics):
    assert compare(museval_metrics, *song(channels=1, seconds=0.5)).sdr.shape == (2, 1)


def test_mixture_as_both_estimates_has_no_artifacts(museval_metrics):
    references, _ = song(channels=1)
    ratios = compare(museval_metrics, references, np.stack([references.sum(axis=0)] * 2))
    assert (ratios.sar > 60).all()


@pytest.mark.parametrize("silent", ["reference", "estimate"])
def test_silent_source_is_undefined(silent):
    references, estimates = song(channels=1)
    (references if silent == "reference" else estimates)[0] = 0
    ratios = BSSEval(references)(estimates)
    assert np.isnan(ratios.sdr).all()
    assert ratios.sdr.shape == (2, 2)


def test_perfect_estimate_is_infinite():
    references, _ = song(channels=1)
    assert np.isposinf(BSSEval(references)(references).sdr).all()


def test_shapes_must_match():
    references, estimates = song(channels=1)
    with pytest.raises(ValueError, match="references"):
        BSSEval(references)(estimates[:, :, 1:])
