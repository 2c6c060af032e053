import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frame_transformer import cli
from frame_transformer.audio import AudioWriter
from frame_transformer.checkpoints import save_model
from frame_transformer.models import SignalConfig, V1Config, WindowConfig, create_model

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model():
    """A V1 with random weights whose masks depend on the input: enough to test the path around a network."""
    torch.manual_seed(0)
    config = V1Config(
        SignalConfig(n_fft=512, hop_length=256), WindowConfig(40, 20), widths=(1, 2, 4, 6, 8, 10), heads=2, expansion=1
    )
    return create_model(config).eval()


@pytest.fixture(scope="session")
def tiny_file(tiny_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(tiny_model, path)
    return path


@pytest.fixture
def noise():
    def make(channels: int, samples: int, level: float = 0.1) -> np.ndarray:
        return (np.random.default_rng(samples).standard_normal((channels, samples)) * level).astype(np.float32)

    return make


@pytest.fixture
def song(tmp_path, noise):
    def make(name: str = "song.wav", channels: int = 2, samples: int = 30_000, rate: int = 44_100, **options) -> Path:
        path = tmp_path / name
        with AudioWriter(path, rate, channels, **options) as writer:
            writer.write(noise(channels, samples))
        return path

    return make


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["frame-transformer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            raise SystemExit(0)
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return command


@pytest.fixture
def cover() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (200, 30, 10)).save(buffer, "JPEG")
    return buffer.getvalue()
