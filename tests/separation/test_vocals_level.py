"""The level of vocals, with a model for which all above 4 kHz is voice."""

import numpy as np
import pytest
import torch
from torch import nn

from frame_transformer.models import SignalConfig, V1Config, WindowConfig
from frame_transformer.separation import VocalsLevel

RATE = 44_100


class HighIsVoice(nn.Module):
    config = V1Config(SignalConfig(n_fft=512, hop_length=256), WindowConfig(100, 50))
    passes = 0

    def forward(self, x):
        HighIsVoice.passes += 1
        frequencies = torch.arange(256) * RATE / 512
        return torch.where(frequencies > 4000, -30.0, 30.0)[:, None].expand_as(x)


def tones(low: float, high: float, seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    sound = low * np.sin(2 * np.pi * 500 * time) + high * np.sin(2 * np.pi * 9000 * time)
    return np.stack([sound, sound]).astype(np.float32)


@pytest.fixture
def vocals_level():
    HighIsVoice.passes = 0
    return VocalsLevel(HighIsVoice(), "cpu", excerpts=5)


def test_level(vocals_level):
    assert vocals_level(tones(0.1, 0.01, 3)) == pytest.approx(-20, abs=0.3)
    assert vocals_level(tones(0.0, 0.01, 3)) == pytest.approx(0, abs=0.1)
    assert vocals_level(tones(0.1, 0.0, 3)) < -60
    assert vocals_level(tones(0.0, 0.0, 3)) == -120
    assert vocals_level(tones(0.1, 0.01, 0.2)) == pytest.approx(-20, abs=0.5)


def test_voice_in_part_of_the_track_counts_and_the_cost_is_bounded(vocals_level):
    sound = np.concatenate([tones(0.1, 0.0, 60), tones(0.1, 0.1, 60)], axis=1)
    assert vocals_level(sound) == pytest.approx(-3, abs=0.5)
    assert HighIsVoice.passes == 5


def test_the_level_is_that_of_the_seconds_with_voice():
    """One second in six has voice, at half the power: the 90th percentile lies halfway to that second."""

    class LongWindow(HighIsVoice):
        config = V1Config(SignalConfig(n_fft=512, hop_length=256), WindowConfig(1000, 50))

    sound = np.concatenate([tones(0.1, 0.0, 5), tones(0.1, 0.1, 1)], axis=1)
    assert VocalsLevel(LongWindow(), "cpu")(sound) == pytest.approx(-6, abs=0.3)
