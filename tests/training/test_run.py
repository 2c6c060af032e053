"""Whole runs through the API of the command."""

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
        "model.safetensors",
    } <= files
    stems = Separator(model).separate(music / "songs/validation/kept/vocals.wav")
    assert stems.vocals.shape == (2, 4 * 44_100)
