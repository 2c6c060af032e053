"""A run that was interrupted ends with the weights of one that was not."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from lightning import Callback
from safetensors.torch import load_file

from frame_transformer.errors import TrainingError
from frame_transformer.training.checkpoint import AtomicCheckpointIO, checkpoints, to_resume
from frame_transformer.training.run import parse, run, train

# Epochs of 3 steps of 2 passes in the first phase, of 4 steps in the second.
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


@pytest.mark.parametrize("step", [2, 3, 5, 7])  # the middle and the end of an epoch of each phase
def test_resumes_bit_for_bit_after_any_step(whole, arguments, tmp_path, step):
    shutil.copy(whole / f"step-{step:08d}.ckpt", tmp_path)
    train(arguments(tmp_path, PHASES, "--trainer.max_steps=8", "--resume=auto"))
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    last = [torch.load(checkpoints(folder)[0], weights_only=True) for folder in (whole, tmp_path)]
    assert last[0]["global_step"] == last[1]["global_step"] == 8
    weights = [checkpoint["state_dict"] for checkpoint in last]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.timeout(300)
def test_resumes_after_kill_9(whole, arguments, tmp_path):
    command = arguments(tmp_path, PHASES, "--trainer.max_steps=8", "--save_every=2", "--resume=auto")
    run = subprocess.Popen(
        [sys.executable, "-c", "from frame_transformer.cli import main; main()", "train", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not checkpoints(tmp_path) and run.poll() is None:
        time.sleep(0.01)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    assert not (tmp_path / "model.safetensors").exists()
    train(command)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_stops_with_a_checkpoint_when_told_to(whole, arguments, tmp_path):
    """As Ctrl-C and schedulers do it: the step is finished and saved, and the run can go on."""

    class Interrupt(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 4:
                signal.raise_signal(signal.SIGTERM)

    cli = parse(arguments(tmp_path, PHASES, "--trainer.max_steps=8"))
    cli.trainer.callbacks.insert(0, Interrupt())
    run(cli)
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000005.ckpt"]
    train(arguments(tmp_path, PHASES, "--trainer.max_steps=8", "--resume=auto"))
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_full_disk_leaves_the_last_checkpoint(tmp_path):
    """A limit on the size of files stands for the disk's end."""
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"state_dict": {"weight": torch.zeros(10)}}, tmp_path / "step-00000001.ckpt")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(TrainingError, match=r"step-00000002.ckpt: cannot be written: .*--resume auto"):
            writer.save_checkpoint({"state_dict": {"weight": torch.zeros(10**6)}}, tmp_path / "step-00000002.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.ckpt"]
    assert torch.equal(writer.load_checkpoint(to_resume("auto", tmp_path))["state_dict"]["weight"], torch.zeros(10))


def test_which_checkpoint(tmp_path):
    assert to_resume("auto", tmp_path) is None
    assert to_resume("never", tmp_path) is None
    for name in ("step-00000009.ckpt", "step-00000010.ckpt", "step-best.ckpt"):
        (tmp_path / name).touch()
    assert to_resume("auto", tmp_path) == tmp_path / "step-00000010.ckpt"
    with pytest.raises(TrainingError, match="holds a run: continue it with --resume auto"):
        to_resume("never", tmp_path)
    with pytest.raises(TrainingError, match="no such checkpoint"):
        to_resume(str(tmp_path / "other.ckpt"), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(arguments, tmp_path):
    wild = ("--model.optimizer.lr=1e30", "--schedule.warmup_steps=0", "--save_every=1")
    with pytest.raises(TrainingError, match="the loss is not finite") as stop:
        train(arguments(tmp_path, *wild))
    (report,) = tmp_path.glob("not-finite-step-*.json")
    assert str(report) in str(stop.value)
    content = json.loads(report.read_text())
    assert len(content["songs"]) == 2
    assert all("chord" in songs or "voice" in songs for songs in content["songs"])
    assert content["values"]["loss"] in ("nan", "inf")
    assert torch.load(checkpoints(tmp_path)[0], weights_only=True)["global_step"] == content["step"]
