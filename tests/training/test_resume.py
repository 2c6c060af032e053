"""A run that was interrupted ends with the weights of one that was not."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from frame_transformer.training.checkpoint import checkpoints
from frame_transformer.training.run import train

# Epochs of 2 steps in the first phase and of 3 in the second; steps of 2 passes at first.
PHASES = (
    '--data.phases=[{"until": 3, "frames": 48, "batch_size": 2, "accumulation": 2},'
    ' {"until": null, "frames": 64, "batch_size": 3}]'
)


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """An uninterrupted run of 8 steps, with a checkpoint of every step."""
    output = tmp_path_factory.mktemp("whole")
    train(arguments(output, PHASES, "--trainer.max_steps=8", "--save_every=1", "--keep=100"))
    assert [path.name for path in checkpoints(output)][::-1] == [f"step-{step:08d}.ckpt" for step in range(1, 9)]
    return output


@pytest.mark.parametrize("step", range(1, 8))
def test_resumes_bit_for_bit_after_any_step(whole, arguments, tmp_path, step):
    shutil.copy(whole / f"step-{step:08d}.ckpt", tmp_path)
    train(arguments(tmp_path, PHASES, "--trainer.max_steps=8", "--resume=auto"))
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    last = [torch.load(checkpoints(folder)[0], weights_only=True) for folder in (whole, tmp_path)]
    assert last[0]["global_step"] == last[1]["global_step"] == 8
    weights = [checkpoint["state_dict"] for checkpoint in last]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
