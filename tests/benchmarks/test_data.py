"""The benchmark of the training data runs and its figures fit together."""

import json

import pytest

from benchmarks.data import main


def test_loader_and_augmentation_against_a_training_step(tiny_file, tmp_path, capsys):
    path = tmp_path / "results" / "data.json"
    arguments = ["-n", tiny_file, "--frames", 64, "--batch-size", 2, "--seconds", 0.1, "--workers", 0, "--json", path]
    assert main([str(argument) for argument in arguments]) == 0
    result = json.loads(path.read_text())
    assert json.loads(capsys.readouterr().out) == result
    both, step = result["loader_and_augmentation_crops_per_second"], result["training_crops_per_second"]
    assert result["ratio"] == pytest.approx(both / step, rel=0.05)
    assert result["loader_crops_per_second"] > result["augmentation_crops_per_second"] > 0
    assert result["seconds"] == pytest.approx(63 * 256 / 44_100, abs=0.01)
