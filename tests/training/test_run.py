"""Whole runs through the API of the command."""

import torch

from frame_transformer import Separator
from frame_transformer.training.run import train


def test_run(arguments, tmp_path, music):
    model = train(arguments(tmp_path / "run"))
    files = {path.name for path in (tmp_path / "run").rglob("*")}
    assert {
        "config.yaml",
        "step-00000009.ckpt",
        "metrics.csv",
        "step-00000006-vocals.flac",
        "step-00000006.png",
        "model.safetensors",
    } <= files
    assert torch.tensor(1e-40) / 2 > 0  # the calling program computes as before
    stems = Separator(model).separate(music / "songs/validation/kept/vocals.wav")
    assert stems.vocals.shape == (2, 4 * 44_100)
