"""Exactness, semantics and bounded memory of the separation path, on a tiny network."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.errors import AudioError, OptionError


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


def test_windows_see_real_context_and_zeros_beyond_the_ends(tiny_model, noise):
    seen = []

    class Spy(torch.nn.Module):
        config = tiny_model.config

        def forward(self, x):
            seen.append(x)
            return torch.zeros_like(x)

    x = noise(2, 256 * 100)
    Separator(Spy(), window=40, context=20, overlap=0).separate(x)
    spectrum = torch.stft(torch.from_numpy(x), 512, 256, window=torch.hann_window(512), return_complex=True)
    magnitudes = spectrum[:, :-1].abs()
    magnitudes = torch.nn.functional.pad(magnitudes / magnitudes.max(), (20, 120))
    assert len(seen) == 3
    for index, window in enumerate(seen):
        torch.testing.assert_close(window[0], magnitudes[:, :, 40 * index : 40 * index + 80], rtol=1e-4, atol=1e-5)


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
    whole = separator.separate(x)
    assert np.array_equal(np.concatenate([b.vocals for b in blocks], axis=1), whole.vocals)
    assert calls[-1] == (200_000, 200_000)


def test_ensembles(tiny_model, noise):
    other = LocalMask(tiny_model.config)
    x = torch.rand(1, 2, 256, 60)
    with torch.inference_mode():
        masks = torch.stack([tiny_model(x).sigmoid(), other(x).sigmoid()])
    for how, expected in {"mean": masks.mean(0), "min": masks.amin(0), "max": masks.amax(0)}.items():
        torch.testing.assert_close(Separator([tiny_model, other], ensemble=how).mask(x), expected)
    weighted = Separator([tiny_model, other], weights=[3, 1]).mask(x)
    torch.testing.assert_close(weighted, 0.75 * masks[0] + 0.25 * masks[1])
    three = Separator([tiny_model, other, other], ensemble="median").mask(x)
    torch.testing.assert_close(three, masks[1])


@pytest.mark.parametrize(
    "options", [{"overlap": 0.7}, {"window": 0}, {"ensemble": "best"}, {"weights": [1, 2]}, {"device": "nonsense"}]
)
def test_options_out_of_range(tiny_model, options):
    with pytest.raises(OptionError):
        Separator(tiny_model, **options)


def test_bad_arrays(tiny_model):
    separator = Separator(tiny_model)
    with pytest.raises(AudioError, match="NaN"):
        separator.separate(np.full((2, 100), np.nan, np.float32))
    with pytest.raises(AudioError, match="expected"):
        separator.separate(np.zeros(100, np.float32))


MEMORY = """
import resource, sys, torch
torch.set_num_threads(1)
from frame_transformer import Separator
for block in Separator(sys.argv[1]).stream(sys.argv[2]):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_song(tiny_file, song):
    def peak(minutes):
        path = song(f"{minutes}.wav", 1, 8_000 * 60 * minutes, 8_000)
        run = subprocess.run(
            [sys.executable, "-c", MEMORY, tiny_file, path], capture_output=True, text=True, check=True
        )
        return int(run.stdout)

    assert peak(12) <= 1.1 * peak(2)
