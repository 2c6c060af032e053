"""How stems are written: bit depth and level of the song."""

import numpy as np
import pytest
import torch

from frame_transformer.audio import AudioWriter, decode, probe
from frame_transformer.models import V1Config
from frame_transformer.separation import OutputOptions, SeparationOptions, Separator
from frame_transformer.separation.batch import separate_file


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator(SeparationOptions(models=(tiny_model,), device="cpu"))


@pytest.mark.parametrize(
    ("source", "depth", "output", "expected"),
    [
        *(("a.wav", "16", "wav", "16"), ("a.wav", "24", "wav", "24"), ("a.wav", "32f", "wav", "32f")),
        *(("a.wav", "32f", "flac", "24"), ("a.flac", "24", "flac", "24"), ("a.flac", "16", "flac", "16")),
        ("a.mp3", None, "wav", "16"),
    ],
)
def test_stems_keep_the_bit_depth_of_the_song(separator, song, tmp_path, source, depth, output, expected):
    path = song(source, bit_depth=depth)
    result = separate_file(separator, path, OutputOptions(tmp_path / "out", audio_format=output))
    assert {probe(stem).bit_depth for stem in result.outputs.values()} == {expected}


def test_a_bit_depth_that_is_asked_for_wins(separator, song, tmp_path):
    path = song("a.wav", bit_depth="24")
    result = separate_file(separator, path, OutputOptions(tmp_path / "out", bit_depth="16"))
    assert {probe(stem).bit_depth for stem in result.outputs.values()} == {"16"}


def test_a_gain_too_small_to_hear_is_not_told(separator, song, noise, tmp_path):
    def separated(scale: float, **options):
        path = tmp_path / "song.wav"
        with AudioWriter(path, 44_100, 2, bit_depth="32f") as writer:
            writer.write(noise(2, 30_000) * np.float32(scale))
        return separate_file(separator, path, OutputOptions(tmp_path / "out", **options))

    free = separated(1, bit_depth="32f")
    peak = max(float(np.abs(decode(path)[0]).max()) for path in free.outputs.values())
    told = separated(1.1 / peak, bit_depth="16")
    assert ["turned down by 0.8 dB" in warning for warning in told.warnings] == [True]
    assert separated(1.002 / peak, bit_depth="16").warnings == []


@pytest.fixture
def loud(tmp_path):
    """A separator that gives both stems half of a song beyond full scale, the song, and that half."""
    model = torch.nn.Module()
    model.config = V1Config()
    model.forward = torch.zeros_like
    time = np.arange(30_000) / 44_100  # no high frequencies: the Nyquist bin belongs to the vocals
    half = np.stack([3 * np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 300 * time)]).astype(np.float32)
    path = tmp_path / "loud.wav"
    with AudioWriter(path, 44_100, 2, bit_depth="32f") as writer:
        writer.write(2 * half)
    return Separator(model, device="cpu"), path, half


def written(loud, tmp_path, **options):
    separator, path, half = loud
    result = separate_file(separator, path, OutputOptions(tmp_path / "out", **options))
    return [decode(path)[0] for path in result.outputs.values()], half, result.warnings


def test_rescaling_turns_all_stems_down_by_one_gain_that_leaves_their_shape(loud, tmp_path):
    stems, half, warnings = written(loud, tmp_path, bit_depth="16")
    gain = 1 / np.abs(half).max()
    for stem in stems:
        np.testing.assert_allclose(stem, gain * half, atol=1e-3)
    assert max(np.abs(stem).max() for stem in stems) > 0.999
    assert f"turned down by {-20 * np.log10(gain):.1f} dB" in warnings[0]


@pytest.mark.parametrize(("clip", "limit"), [("clamp", 1), ("none", 10)])
def test_clamping_cuts_the_peaks_and_nothing_else(loud, tmp_path, clip, limit):
    stems, half, warnings = written(loud, tmp_path, bit_depth="32f", clip=clip)
    for stem in stems:
        np.testing.assert_allclose(stem, half.clip(-limit, limit), atol=1e-3)
    assert not warnings
