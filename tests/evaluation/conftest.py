"""Songs of a few seconds: a tone with an echo stands for the instrumental, bursts of noise for the vocals."""

from pathlib import Path

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter

RATE = 44_100
SECONDS = 2.0


def make_stems(seed: int, seconds: float = SECONDS, channels: int = 2, rate: int = RATE) -> dict[str, np.ndarray]:
    """vocals, drums, bass and other of a song: float32 (channels, samples)."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    gate = (np.sin(2 * np.pi * (1 + seed % 3) * time) > 0) + 0.1
    pan = rng.uniform(0.3, 1, (4, channels, 1))
    voice = rng.standard_normal((1, len(time))) + 0.3 * rng.standard_normal((channels, len(time)))
    vocals = gate * voice * pan[0] * 0.1
    drums = rng.standard_normal((channels, len(time))) * np.exp(-20 * (time % 0.5)) * pan[1] * 0.1
    bass = 0.1 * np.sin(2 * np.pi * 55 * time) * pan[2]
    other = 0.1 * np.sin(2 * np.pi * 440 * time + rng.uniform(0, 6, (channels, 1))) * pan[3]
    stems = {"vocals": vocals, "drums": drums, "bass": bass, "other": other}
    return {name: sound.astype(np.float32) for name, sound in stems.items()}


def write(path: Path, sound: np.ndarray, rate: int = RATE) -> Path:
    with AudioWriter(path, rate, len(sound), bit_depth="32f" if path.suffix == ".wav" else None) as writer:
        writer.write(sound)
    return path


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Two songs in the layout of MUSDB18-HQ, mono, which is four times faster to score, and 2 s long."""
    root = tmp_path_factory.mktemp("musdb") / "test"
    for seed, name in enumerate(("One - First", "Two - Second")):
        stems = make_stems(seed, SECONDS, channels=1)
        for stem, sound in (stems | {"mixture": sum(stems.values())}).items():
            write(root / name / f"{stem}.wav", sound)
    return root


@pytest.fixture(scope="session")
def separated(dataset, tmp_path_factory) -> Path:
    """What some tool made of the dataset: each stem with a tenth of the other in it."""
    folder = tmp_path_factory.mktemp("separated") / "sometool"
    for seed, song in enumerate(sorted(dataset.iterdir())):
        stems = make_stems(seed, SECONDS, channels=1)
        vocals, rest = stems["vocals"], stems["drums"] + stems["bass"] + stems["other"]
        write(folder / song.name / "vocals.wav", vocals + 0.1 * rest)
        write(folder / song.name / "instrumental.wav", rest + 0.1 * vocals)
    return folder
