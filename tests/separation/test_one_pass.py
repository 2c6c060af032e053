"""Models that are normalised by the window, not by the song, need to read the song only once."""

import dataclasses

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.audio import AudioReader
from frame_transformer.models import create_model, window_level


@pytest.fixture(scope="module")
def level_model(tiny_model):
    torch.manual_seed(1)
    signal = dataclasses.replace(tiny_model.config.signal, normalization="window_level")
    return create_model(dataclasses.replace(tiny_model.config, signal=signal)).eval()


@pytest.fixture
def blocks_read(monkeypatch):
    """The number of blocks that each pass over a file has read so far."""
    passes = []
    read = AudioReader.__iter__

    def counted(reader):
        passes.append(0)
        for block in read(reader):
            passes[-1] += 1
            yield block

    monkeypatch.setattr(AudioReader, "__iter__", counted)
    return passes


@pytest.mark.parametrize("mid_side", [False, True])
def test_one_window_is_the_plain_computation(level_model, noise, mid_side):
    config = level_model.config
    signal = dataclasses.replace(config.signal, mid_side=mid_side)
    model = create_model(dataclasses.replace(config, signal=signal)).eval()
    x = noise(2, 256 * 120)
    stems = Separator(model, window=121, context=0, overlap=0).separate(x)
    window = torch.hann_window(512)
    spectrum = torch.stft(torch.from_numpy(x), 512, 256, window=window, return_complex=True)
    seen = spectrum[None, :, :-1]
    level = window_level(seen.abs())
    if mid_side:
        left, right = seen[:, :1], seen[:, 1:]
        seen = torch.cat((left, right, left / 2 + right / 2, left / 2 - right / 2), dim=1)
    with torch.inference_mode():
        mask = model(seen.abs() / level).sigmoid()[0]
    mask = torch.nn.functional.pad(mask, (0, 0, 0, 1))
    plain = torch.istft(spectrum * mask, 512, 256, window=window, length=x.shape[1]).numpy()
    assert np.abs(stems.instrumental - plain).max() < 1e-5


def test_the_first_samples_come_before_the_song_has_been_read(level_model, tiny_model, song, blocks_read):
    path = song(samples=65_536 * 20)
    next(iter(Separator(level_model).stream(path)))
    assert blocks_read == [1]
    blocks_read.clear()
    next(iter(Separator(tiny_model).stream(path)))
    assert blocks_read == [20, 1]


def test_a_song_is_read_once(level_model, song, blocks_read):
    stems = Separator(level_model).separate(song(samples=65_536 * 3))
    assert blocks_read == [3]
    assert stems.vocals.shape == (2, 65_536 * 3)


@pytest.mark.parametrize("overlap", [0, 0.25])
@pytest.mark.parametrize("context", [0, 5])
@pytest.mark.parametrize("samples", [255, 256 * 15, 256 * 16 - 1, 256 * 16, 256 * 16 + 1, 256 * 32, 256 * 32 + 255])
def test_songs_that_end_near_a_window_have_their_length(level_model, noise, samples, context, overlap):
    x = noise(2, samples)
    stems = Separator(level_model, window=16, context=context, overlap=overlap).separate(x)
    assert stems.vocals.shape == x.shape
    assert np.abs(stems.vocals + stems.instrumental - x).max() <= 1e-6
    assert np.abs(stems.vocals[:, -1]).max() > 0


def test_the_network_is_asked_for_as_many_windows_as_the_song_has(level_model, noise):
    for frames, windows in ((1, 1), (16, 1), (17, 2), (32, 2), (33, 3)):
        seen = []

        class Spy(torch.nn.Module):
            config = level_model.config

            def forward(self, x, seen=seen):
                seen.append(x)
                return torch.zeros_like(x)

        Separator(Spy(), window=16, context=0, overlap=0).separate(noise(2, 256 * (frames - 1) + 100))
        assert len(seen) == windows


def test_a_glitch_rules_its_own_window_alone(level_model, tiny_model, noise):
    x = noise(2, 256 * 400)
    glitch = x.copy()
    glitch[:, 256 * 350] = 1e4

    def changed(model):
        options = {"window": 40, "context": 20, "overlap": 0}
        before, after = (Separator(model, **options).separate(samples).vocals for samples in (x, glitch))
        return np.abs(before - after)[:, : 256 * 250].max()

    assert changed(level_model) < 1e-6
    assert changed(tiny_model) > 1e-3


def test_progress_ends_with_the_length_that_was_read(level_model, song):
    calls = []
    path = song("song.mp3", samples=200_000)
    stems = Separator(level_model).separate(path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (stems.vocals.shape[1],) * 2
    assert all(0 <= done <= total for done, total in calls)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
