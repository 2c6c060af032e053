"""Several processes and nodes on this machine, started by torchrun as on many."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from frame_transformer.training.run import train

COMMAND = "from frame_transformer.cli import main; main()"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
ONE_STEP = (
    "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1", "--schedule.warmup_steps=0", "--model.gain=[1, 1]",
    "--model.network.dropout=0", "--trainer.gradient_clip_val=null", "--trainer.max_steps=1",
    "--data.crops_per_epoch=4",
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def torchrun(arguments: list[str], *options: str) -> subprocess.Popen:
    launcher = [sys.executable, "-m", "torch.distributed.run", *options, "--no-python", sys.executable, "-c", COMMAND]
    return subprocess.Popen(
        [*launcher, "train", *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def phases(batch_size: int) -> str:
    return f'--data.phases=[{{"until": null, "frames": 48, "batch_size": {batch_size}}}]'


@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", ["auto", "fsdp2"])
def test_two_nodes_take_the_step_of_one_process_with_twice_the_batch(arguments, tmp_path, strategy):
    """With SGD and a learning rate of 1, the step is the gradient."""
    port = free_port()
    nodes = [
        torchrun(
            arguments(
                tmp_path / "two", *ONE_STEP, phases(2), f"--trainer.strategy={strategy}", "--trainer.num_nodes=2",
                "--trainer.enable_progress_bar=true",
            ),
            "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}", "--master-addr=127.0.0.1",
            f"--master-port={port}",
        )
        for rank in range(2)
    ]  # fmt: skip
    train(arguments(tmp_path / "one", *ONE_STEP, phases(4)))
    outputs = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert ["model.safetensors" in output for output in outputs] == [True, False], outputs
    one, two = (
        torch.load(tmp_path / name / "step-00000001.ckpt", weights_only=True)["state_dict"] for name in ("one", "two")
    )
    for name in one:
        # The loss is in bels: its gradients are near 1, and sums in another order differ in their last digits.
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)
    assert (tmp_path / "two" / "model.safetensors").exists()


@pytest.mark.timeout(300)
def test_killing_one_process_ends_the_job_with_a_message(arguments, tmp_path):
    job = torchrun(
        arguments(tmp_path, phases(1), "--trainer.max_steps=100000", "--trainer.devices=2", "--save_every=1"),
        "--standalone", "--nproc-per-node=2",
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("step-*.ckpt")) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output, _ = job.communicate(timeout=100)
    assert job.returncode != 0
    assert "another process of this run has ended" in output, output
    assert torch.load(max(tmp_path.glob("step-*.ckpt")), weights_only=True)["global_step"] >= 1
