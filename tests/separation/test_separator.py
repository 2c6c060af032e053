"""Exactness, semantics and bounded memory of the separation path, on a tiny network."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.errors import ModelError, OptionError
from frame_transformer.models import SignalConfig, V1Config, create_model
from frame_transformer.separation.arrays import ARRAY_BLOCK
from frame_transformer.separation.ensembles import join


@pytest.fixture
def unpadded_model(tiny_model):
    """The same network, whose last window ends with the song."""
    model = copy.copy(tiny_model)
    model.config = replace(model.config, window=replace(model.config.window, pad_last=False))
    return model


@pytest.mark.parametrize("overlap", [0, 0.25])
@pytest.mark.parametrize(
    ("channels", "samples", "rate"),
    [(2, 100_000, 44_100), (1, 100, 44_100), (2, 1, 44_100), (2, 257, 44_100), (2, 50_001, 48_000), (1, 40_000, 8_000),
     (6, 44_100, 44_100), (8, 9_999, 96_000), (3, 5_000, 44_100)],
)  # fmt: skip
def test_stems_have_the_input_shape_and_add_up(tiny_model, noise, channels, samples, rate, overlap):
    mixture = noise(channels, samples)
    stems = Separator(tiny_model, overlap=overlap).separate(mixture, rate)
    assert stems.vocals.shape == stems.instrumental.shape == mixture.shape
    assert stems.vocals.dtype == np.float32
    assert stems.sample_rate == rate
    assert np.abs(stems.vocals + stems.instrumental - mixture).max() <= 1e-4


def plain_instrumental(model, x):
    """One window over the whole song, by torch's own transforms."""
    window = torch.hann_window(512)
    spectrum = torch.stft(torch.from_numpy(x), 512, 256, window=window, return_complex=True)
    magnitudes = spectrum[:, :-1].abs()
    with torch.inference_mode():
        mask = model((magnitudes / magnitudes.max())[None]).sigmoid()[0]
    mask = torch.nn.functional.pad(mask, (0, 0, 0, 1))
    return torch.istft(spectrum * mask, 512, 256, window=window, length=x.shape[1]).numpy()


def test_one_window_is_the_plain_computation(tiny_model, noise):
    x = noise(2, 256 * 120)
    stems = Separator(tiny_model, window=121, context=0, overlap=0).separate(x)
    assert np.abs(stems.instrumental - plain_instrumental(tiny_model, x)).max() < 1e-5


@pytest.mark.parametrize(("model", "last"), [("tiny_model", 80), ("unpadded_model", 61)])
def test_windows_see_real_context_and_zeros_beyond_the_ends(request, noise, model, last):
    seen = []

    class Spy(torch.nn.Module):
        config = request.getfixturevalue(model).config

        def forward(self, x):
            seen.append(x)
            return torch.zeros_like(x)

    x = noise(2, 256 * 100)
    Separator(Spy(), window=40, context=20, overlap=0).separate(x)
    spectrum = torch.stft(torch.from_numpy(x), 512, 256, window=torch.hann_window(512), return_complex=True)
    magnitudes = spectrum[:, :-1].abs()
    magnitudes = torch.nn.functional.pad(magnitudes / magnitudes.max(), (20, 120))
    assert [window.shape[3] for window in seen] == [80, 80, last]
    for index, window in enumerate(seen):
        expected = magnitudes[:, :, 40 * index : 40 * index + window.shape[3]]
        torch.testing.assert_close(window[0], expected, rtol=1e-4, atol=1e-5)


def test_models_of_one_channel_are_refused():
    model = create_model(
        V1Config(SignalConfig(n_fft=64, hop_length=32, channels=1), widths=(1, 1), heads=1, expansion=1)
    )
    with pytest.raises(ModelError, match="for 1 channels instead of 2"):
        Separator(model)


class LocalMask(torch.nn.Module):
    """A mask from three neighbouring frames: with context, windows cannot matter."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, x):
        return 20 * torch.nn.functional.avg_pool2d(x, (1, 3), 1, (0, 1)) - 2


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5])
@pytest.mark.parametrize("window", [16, 33])
def test_seams_do_not_show(tiny_model, noise, window, overlap):
    model = LocalMask(tiny_model.config)
    x = noise(2, 256 * 131 + 77)
    whole = Separator(model, window=1000, context=0, overlap=0).separate(x)
    parts = Separator(model, window=window, context=8, overlap=overlap).separate(x)
    assert np.abs(whole.vocals - parts.vocals).max() < 1e-6


@pytest.mark.parametrize("channels", range(1, 9))
def test_every_channel_is_separated(tiny_model, channels):
    class Halves(torch.nn.Module):
        config = tiny_model.config

        def forward(self, x):
            return torch.zeros_like(x)

    frequencies = 200 * np.arange(1, channels + 1)[:, None]
    mixture = (0.1 * np.sin(2 * np.pi * frequencies * np.arange(20_000) / 44_100)).astype(np.float32)
    np.testing.assert_allclose(Separator(Halves()).separate(mixture).vocals, mixture / 2, atol=1e-4)


def test_silence_stays_silent(tiny_model):
    stems = Separator(tiny_model).separate(np.zeros((2, 30_000), np.float32))
    assert not stems.vocals.any()
    assert not stems.instrumental.any()


def test_streaming_is_the_same_and_reports_progress(tiny_model, noise):
    x = noise(2, 200_000)
    calls = []
    separator = Separator(tiny_model)
    blocks = list(separator.stream(x, progress=lambda done, total: calls.append((done, total))))
    assert len(blocks) > 3
    assert calls[:2] == [(0, ARRAY_BLOCK), (0, 200_000)]
    whole = separator.separate(x)
    assert np.array_equal(np.concatenate([b.vocals for b in blocks], axis=1), whole.vocals)
    assert calls[-1] == (200_000, 200_000)


def test_ensembles(tiny_model, noise):
    other = LocalMask(tiny_model.config)
    x = torch.rand(1, 2, 256, 60)
    with torch.inference_mode():
        masks = torch.stack([tiny_model(x).sigmoid(), other(x).sigmoid()])

    def joined(models, **options):
        return Separator(models, context=0, **options).parts[0].mask(x)

    for how, expected in {"mean": masks.mean(0), "min": masks.amin(0), "max": masks.amax(0)}.items():
        torch.testing.assert_close(joined([tiny_model, other], ensemble=how), expected)
    weighted = joined([tiny_model, other], weights=[3, 1])
    torch.testing.assert_close(weighted, 0.75 * masks[0] + 0.25 * masks[1])
    three = joined([tiny_model, other, other], ensemble="median")
    torch.testing.assert_close(three, masks[1])
    two = joined([tiny_model, other], ensemble="median")
    torch.testing.assert_close(two, masks.mean(0))


def test_the_median_of_four_is_the_mean_of_the_middle_ones():
    masks = torch.rand(4, 2, 3, 5)
    expected = torch.from_numpy(np.median(masks.numpy(), axis=0))
    torch.testing.assert_close(join(masks, masks, "median", torch.ones(4)), expected)


@pytest.mark.parametrize("model", ["tiny_model", "unpadded_model"])
@pytest.mark.parametrize("channels", [2, 6])
def test_batches_change_nothing(request, noise, model, channels):
    model = request.getfixturevalue(model)
    x = noise(channels, 256 * 200 + 33)
    alone = Separator(model, overlap=0.25).separate(x)
    together = Separator(model, overlap=0.25, batch_size=7).separate(x)
    assert np.abs(alone.vocals - together.vocals).max() < 1e-6


@pytest.mark.parametrize("frames", [5, 121, 131])
def test_without_padding_a_song_of_one_window_is_the_plain_computation(unpadded_model, noise, frames):
    x = noise(2, 256 * (frames - 1))
    stems = Separator(unpadded_model, window=500, context=0, overlap=0.5).separate(x)
    assert np.abs(stems.instrumental - plain_instrumental(unpadded_model, x)).max() < 1e-5


def test_batch_size_is_what_the_network_sees(tiny_model, noise):
    sizes = []

    class Spy(torch.nn.Module):
        config = tiny_model.config

        def forward(self, x):
            sizes.append(len(x))
            return torch.zeros_like(x)

    for channels, batch_size in ((2, 3), (8, 2)):  # eight channels are five pairs
        sizes.clear()
        Separator(Spy(), batch_size=batch_size, overlap=0).separate(noise(channels, 256 * 200))
        assert max(sizes) == batch_size


def test_tta_is_the_mean_of_four_passes(tiny_model):
    x = torch.rand(1, 2, 256, 80)
    separator = Separator(tiny_model, window=40, context=20, tta=True)
    with torch.inference_mode():
        masks = [
            tiny_model(x[..., low:high]).sigmoid()[..., 20 - low : 60 - low]
            for low, high in ((0, 80), (10, 70), (0, 70), (10, 80))
        ]
    assert (masks[0] - masks[1]).abs().max() > 1e-5
    torch.testing.assert_close(separator.parts[0].mask(x), torch.stack(masks).mean(0))


@pytest.mark.parametrize("context", [2, 20])
def test_tta_keeps_lengths_and_sums(tiny_model, noise, context):
    x = noise(2, 256 * 100 + 1)
    stems = Separator(tiny_model, tta=True, batch_size=2, context=context).separate(x)
    assert stems.vocals.shape == x.shape
    assert np.abs(stems.vocals + stems.instrumental - x).max() <= 1e-4


@pytest.mark.filterwarnings("ignore:float16 is far slower")
@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.015)])
def test_half_precision_is_close_and_masks_stay_float32(tiny_model, dtype, tolerance):
    # Over twelve random networks of this size the largest differences were 0.073 and 0.010.
    torch.manual_seed(0)
    x = torch.rand(1, 2, 256, 80)
    exact, fast = Separator(tiny_model).parts[0].mask(x), Separator(tiny_model, dtype=dtype).parts[0].mask(x)
    assert fast.dtype == torch.float32
    assert 0 < (exact - fast).abs().max() < tolerance


def test_dtypes_by_their_torch_name(tiny_model):
    assert Separator(tiny_model, dtype=torch.bfloat16).parts[0].dtype == torch.bfloat16
    with pytest.raises(OptionError, match="float32, bfloat16, float16"):
        Separator(tiny_model, dtype="int8")


def test_cancelling_from_the_callback(tiny_model, noise):
    class CancelledError(Exception):
        pass

    def cancel(done, total):
        raise CancelledError

    with pytest.raises(CancelledError):
        Separator(tiny_model).separate(noise(2, 50_000), progress=cancel)


@pytest.mark.parametrize(
    "options",
    [{"overlap": 0.7}, {"window": 0}, {"ensemble": "best"}, {"weights": [1, 2]}, {"device": "nonsense"},
     {"weights": [-1]}, {"weights": [1], "ensemble": "max"}, {"batch_size": 0}, {"smoothing": 1.0}, {"smoothing": -0.1},
     {"tta": True, "context": 0}, {"weights": [float("nan")]}, {"stream": -1}, {"weights": [0]}],
)  # fmt: skip
def test_options_out_of_range(tiny_model, options):
    with pytest.raises(OptionError):
        Separator(tiny_model, **options)


MEMORY = """
import resource, sys, torch
torch.set_num_threads(1)
from frame_transformer import Separator
from frame_transformer.models import V1Config, WindowConfig
class Halves(torch.nn.Module):  # the least of networks: what is measured is the path around it
    config = V1Config(window=WindowConfig(200, 20))
    def forward(self, x):
        return torch.zeros_like(x)
for block in Separator(Halves(), smoothing=0.1).stream(sys.argv[1]):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_song(song):
    def peak(minutes):
        path = song(f"{minutes}.wav", 1, 8_000 * 60 * minutes, 8_000)
        run = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
        return int(run.stdout)

    assert peak(12) <= 1.1 * peak(2)
