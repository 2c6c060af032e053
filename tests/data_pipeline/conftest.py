"""A small catalogue: tones stand for instrumentals, noise bursts for vocals, so that they are easy to tell apart."""

from pathlib import Path

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter
from frame_transformer.data import discover, prepare, read_prepared

RATE = 44_100


def tone(frequency: float, seconds: float, level: float = 0.2) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.stack([np.sin(2 * np.pi * frequency * time), np.cos(2 * np.pi * frequency * time)])).astype("f4")


def bursts(seed: int, seconds: float, level: float = 0.2) -> np.ndarray:
    """Noise in the second third, silence in the others."""
    samples = round(seconds * RATE)
    noise = np.random.default_rng(seed).standard_normal((2, samples)).astype("f4") * level
    noise[:, : samples // 3] = noise[:, 2 * samples // 3 :] = 0
    return noise


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with AudioWriter(path, rate, len(sound)) as writer:
        writer.write(sound)
    return path


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Path:
    """instrumentals/ (2 songs), vocals/ (2), stems/ (1 song, 6 s, and 1 for validation), music/ (1)."""
    root = tmp_path_factory.mktemp("folders")
    for number in (1, 2):
        write(root / f"instrumentals/tone{number}.wav", tone(200 * number, 6))
        write(root / f"vocals/voice{number}.flac", bursts(number, 6))
    for place in ("stems/duet", "stems/validation/kept"):
        write(root / place / "instrumental.wav", tone(900, 6))
        write(root / place / "vocals.wav", bursts(9, 6))
    write(root / "music/any.wav", tone(700, 6))
    return root


@pytest.fixture(scope="session")
def prepared(folders, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    roles = {"instrumentals": "instrumentals", "vocals": "vocals", "songs": "stems", "unlabelled": "music"}
    prepare(discover({role: [folders / name] for role, name in roles.items()}), output)
    return output


@pytest.fixture(scope="session")
def catalogue(prepared):
    return read_prepared(prepared)
