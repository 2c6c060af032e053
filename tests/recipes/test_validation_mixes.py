"""The validation mixes of the recipe, made as their user makes them, in their quick form."""

import subprocess
import sys

import numpy as np
import pytest
from common import SAMPLE_RATE, decode, write

from .conftest import RECIPE


@pytest.fixture
def data(tmp_path):
    """A data folder as the first steps leave it, with noise for music."""
    random = np.random.default_rng(0)
    for name in (
        *("stems/song/vocals", "stems/song/instrumental", "instrumentals/package/track", "singing/singer/000"),
        *("validation/singing/other/000", "validation/instrumentals/package/track"),
    ):
        write(tmp_path / f"{name}.flac", 0.1 * random.standard_normal((2, 6 * SAMPLE_RATE)))
    return tmp_path


def run(step, data):
    result = subprocess.run(
        [sys.executable, str(RECIPE / step), "--output", str(data), "--quick"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_validation_mixes_are_unseen_voice_over_unseen_music(data):
    run("06_validation_mixes.py", data)
    folders = sorted((data / "validation" / "mixes").iterdir())
    assert len(folders) == 2
    for folder in folders:
        vocals, instrumental = decode(folder / "vocals.flac"), decode(folder / "instrumental.flac")
        level = 10 * np.log10(np.mean(vocals**2) / np.mean(instrumental**2))
        assert -8.1 < level < 0.1
