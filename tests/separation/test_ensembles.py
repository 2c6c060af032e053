"""Ensembles: one spectrogram, several spectrograms, and wherever a model is taken."""

import tracemalloc

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.checkpoints import save_model
from frame_transformer.errors import OptionError
from frame_transformer.models import SignalConfig, V1Config, WindowConfig, create_model
from frame_transformer.separation import ModelEnsemble, VocalsLevel


def make_model(n_fft, hop_length, sample_rate, seed, **signal):
    torch.manual_seed(seed)
    config = V1Config(
        signal=SignalConfig(n_fft=n_fft, hop_length=hop_length, sample_rate=sample_rate, **signal),
        window=WindowConfig(frames=40, context=20),
        widths=(1, 2, 4),
        heads=2,
        expansion=1,
    )
    return create_model(config).eval()


@pytest.fixture(scope="module")
def mixed():
    """Models of different spectrograms, rates and ways to normalise."""
    return [
        make_model(512, 256, 44_100, 0),
        make_model(1024, 256, 44_100, 1, normalization="window_level"),
        make_model(512, 128, 32_000, 2),
    ]


class Constant(torch.nn.Module):
    """A mask of one number."""

    def __init__(self, config, mask):
        super().__init__()
        self.config, self.logit = config, float(np.log(mask / (1 - mask)))

    def forward(self, x):
        return torch.full_like(x, self.logit)


@pytest.mark.parametrize("ensemble", ["mean", "median", "min", "max"])
@pytest.mark.parametrize(("channels", "samples", "rate"), [(2, 100_003, 44_100), (1, 50_001, 48_000), (6, 257, 44_100)])
def test_stems_of_different_spectrograms_have_the_input_shape_and_add_up(
    mixed, noise, ensemble, channels, samples, rate
):
    mixture = noise(channels, samples)
    stems = Separator(mixed, ensemble=ensemble).separate(mixture, rate)
    assert stems.vocals.shape == stems.instrumental.shape == mixture.shape
    assert np.abs(stems.vocals + stems.instrumental - mixture).max() <= 1e-5


def test_a_mean_across_spectrograms_is_the_mean_of_the_stems_sample_for_sample(mixed, noise):
    mixture = noise(2, 90_001)
    alone = [Separator(model).separate(mixture).vocals for model in mixed]
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    weighted = Separator(mixed, weights=[3, 1, 0]).separate(mixture).vocals
    np.testing.assert_allclose(weighted, 0.75 * alone[0] + 0.25 * alone[1], atol=1e-6)


def sines():
    """Low frequencies, from which neither resampling to 32 kHz nor the Nyquist bin, which is vocals, takes anything."""
    time = np.arange(60_000) / 44_100
    return np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 1000 * time)]).astype(np.float32) * 0.1


@pytest.mark.parametrize(("ensemble", "share"), [("mean", 0.4), ("median", 0.3), ("min", 0.2), ("max", 0.7)])
def test_the_others_choose_by_the_magnitude_of_the_instrumental(mixed, ensemble, share):
    """Constant masks leave a known share of the mixture in the instrumental, whatever the spectrogram."""
    models = [Constant(model.config, mask) for model, mask in zip(mixed, (0.3, 0.7, 0.2), strict=True)]
    stems = Separator(models, ensemble=ensemble).separate(sines())
    # The ends of the sines ring in the resampler.
    np.testing.assert_allclose(stems.instrumental[:, 500:-500], share * sines()[:, 500:-500], atol=1e-4)


def test_windows_of_more_than_two_hops_reach_the_last_sample(mixed):
    stems = Separator([Constant(mixed[1].config, 0.5)]).separate(sines())
    np.testing.assert_allclose(stems.vocals, 0.5 * sines(), atol=1e-4)


def test_streaming_an_ensemble_is_the_same_and_gives_samples_early(mixed, noise):
    mixture = noise(2, 100_000)
    separator = Separator(mixed, ensemble="median")
    blocks = list(separator.stream(mixture))
    assert len(blocks) > 5
    whole = separator.separate(mixture).vocals
    assert np.array_equal(np.concatenate([block.vocals for block in blocks], axis=1), whole)


def test_an_ensemble_is_a_model(mixed, noise):
    mixture = noise(2, 60_000)
    expected = Separator(mixed, ensemble="max").separate(mixture).vocals
    assert np.array_equal(Separator(ModelEnsemble(mixed, "max")).separate(mixture).vocals, expected)
    assert VocalsLevel(ModelEnsemble(mixed))(mixture) == VocalsLevel(mixed)(mixture)
    same = [mixed[0], make_model(512, 256, 44_100, 3)]
    inner = ModelEnsemble(same)
    x = torch.rand(1, 2, 256, 30)
    with torch.inference_mode():
        mean = (same[0](x).sigmoid() + same[1](x).sigmoid()) / 2
        torch.testing.assert_close(inner(x).sigmoid(), mean)
    outer = Separator([inner, mixed[1]], weights=[2, 1]).separate(mixture).vocals
    parts = [Separator(same).separate(mixture).vocals, Separator(mixed[1]).separate(mixture).vocals]
    np.testing.assert_allclose(outer, (2 * parts[0] + parts[1]) / 3, atol=1e-6)
    with pytest.raises(OptionError, match="different spectrograms"):
        ModelEnsemble([ModelEnsemble(mixed[:2]), mixed[0]])
    with pytest.raises(OptionError, match="different spectrograms"):
        ModelEnsemble(mixed)(x)


def test_models_of_one_spectrogram_pass_together(mixed, noise):
    """Their masks are joined, and their means are those of all models alike."""
    models = [mixed[0], mixed[1], make_model(512, 256, 44_100, 4)]
    separator = Separator(models)
    assert len(separator.parts) == 2
    mixture = noise(2, 50_000)
    alone = [Separator(model).separate(mixture).vocals for model in models]
    np.testing.assert_allclose(separator.separate(mixture).vocals, np.mean(alone, axis=0), atol=1e-5)


def test_the_command_joins_models_of_different_spectrograms(mixed, run, song, tmp_path):
    for number, model in enumerate(mixed):
        save_model(model, tmp_path / f"m{number}.safetensors")
    names = [part for number in range(3) for part in ("-n", f"m{number}.safetensors")]
    code, out, _ = run("separate", song(samples=20_000), *names, "--ensemble", "median")
    assert code == 0
    assert out.splitlines() == [f"separated/m0+m1+m2/song/{stem}.wav" for stem in ("vocals", "instrumental")]


def test_memory_does_not_grow_with_the_song(mixed, song):
    """Of the blocks of samples; those of the spectrograms are bounded as for a single model."""
    models = [Constant(model.config, 0.5) for model in mixed]

    def peak(seconds):
        path = song(f"{seconds}.wav", 2, 44_100 * seconds, 44_100)
        tracemalloc.start()
        for _ in Separator(models, ensemble="median").stream(path):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    assert peak(30) <= 1.2 * peak(8)
