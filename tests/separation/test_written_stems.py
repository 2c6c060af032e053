"""How stems are written: bit depth and level of the song."""

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter, decode, probe
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
