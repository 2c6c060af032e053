"""Generated songs: chords stand for instrumentals, noise bursts for voices; and arguments of a run on them."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lightning")

from tests.data_pipeline.conftest import bursts, folders, prepared, tone, write  # noqa: F401 - fixtures among them

# AsymUNetMCT's smallest sensible form, on short spectra.
NETWORK = {
    "signal.n_fft": 512, "signal.hop_length": 256, "widths": [2, 4, 6, 8, 8, 8], "attention_maps": [0, 0, 0, 1, 1],
    "heads": 2, "expansion": 1.0, "latent_layers": 1, "latent_expansion": 1, "positional_embedding": "false",
    "restart_latent_residual": "false", "dropout": 0.1, "window.frames": 64, "window.context": 32,
}  # fmt: skip


def chord(number: int, seconds: float) -> np.ndarray:
    return sum(tone(110 * (number + 2) * harmonic, seconds, 0.15 / harmonic) for harmonic in (1, 2, 3))


@pytest.fixture(scope="session")
def music(tmp_path_factory) -> Path:
    """instrumentals/ and vocals/, 3 songs of 4 s each, and songs/validation/kept with both stems."""
    root = tmp_path_factory.mktemp("music")
    for number in range(3):
        write(root / f"instrumentals/chord{number}.wav", chord(number, 4))
        write(root / f"vocals/voice{number}.wav", bursts(number, 4))
    write(root / "songs/validation/kept/instrumental.wav", chord(5, 4))
    write(root / "songs/validation/kept/vocals.wav", bursts(9, 4))
    return root


def network_arguments(**changes) -> list[str]:
    fields = NETWORK | changes
    return [f"--model.network.{name}={value}" for name, value in fields.items()]


@pytest.fixture(scope="session")
def arguments(music, tmp_path_factory):
    """Arguments of a small run into ``output``; later ones win."""
    prepared_songs = tmp_path_factory.mktemp("prepared")

    def make(output: Path, *more: str, config: str = "tiny") -> list[str]:
        roles = [f"--data.{role}={music / role}" for role in ("instrumentals", "vocals", "songs")]
        return [
            "--config", config, *network_arguments(), *roles, f"--data.prepared={prepared_songs}", f"--output={output}",
            "--data.validation_share=0", "--data.workers=0", "--data.crops_per_epoch=12", "--data.validation_crops=2",
            '--data.phases=[{"until": null, "frames": 64, "batch_size": 2}]',
            "--trainer.max_steps=9", "--trainer.accelerator=cpu", "--trainer.devices=1",
            "--trainer.enable_progress_bar=false", *more,
        ]  # fmt: skip

    return make
