"""What the machine or the weights do not allow is one line."""

import copy
import os
import subprocess
import sys

import pytest
import torch

from frame_transformer import Separator
from frame_transformer.checkpoints import save_model
from frame_transformer.errors import FrameTransformerWarning, ModelError, OptionError


def test_damaged_weights_are_told(tiny_model, noise, run, song, tmp_path):
    damaged = copy.deepcopy(tiny_model)
    next(damaged.parameters()).data.fill_(float("nan"))
    with pytest.raises(ModelError, match="the network yields NaN: its weights are damaged"):
        Separator(damaged).separate(noise(2, 10_000))
    next(damaged.parameters()).data.fill_(3e38)
    save_model(damaged, tmp_path / "damaged.safetensors")
    code, _, err = run("separate", song(samples=10_000), "-n", "damaged.safetensors")
    assert (code, err.count("\n")) == (1, 1)
    assert "weights are damaged" in err
    assert not list((tmp_path / "separated").rglob("*.wav"))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."),
     RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ...")],
)  # fmt: skip
def test_a_window_too_large_for_the_memory(tiny_model, noise, error):
    class Hungry(torch.nn.Module):
        config = tiny_model.config

        def forward(self, x):
            raise error

    with pytest.raises(OptionError, match="80 frames, 1 at once, do not fit into memory: make --window"):
        Separator(Hungry()).separate(noise(2, 10_000))


def test_float16_on_a_cpu_is_advised_against(tiny_model, tiny_file, song):
    with pytest.warns(FrameTransformerWarning, match="use float32"):
        Separator(tiny_model, device="cpu", dtype="float16")
    code = "from frame_transformer.cli import main; main()"
    line = ["separate", song(samples=3_000), "-n", tiny_file, "-d", "cpu", "--dtype", "float16", "--json"]
    process = subprocess.run([sys.executable, "-c", code, *map(str, line)], capture_output=True, text=True, check=True)
    assert process.stderr == "warning: float16 is far slower than float32 on a CPU: use float32\n"


FORK = """
import os, sys, torch
from frame_transformer import Separator, OptionError
from frame_transformer.models import V1Config
torch.set_num_threads(2)
torch.ones(1 << 22).exp()  # the pool of threads starts
class Halves(torch.nn.Module):
    config = V1Config()
    def forward(self, x):
        return torch.zeros_like(x)
child = os.fork()
if child == 0:
    torch.set_num_threads(int(sys.argv[1]))
    try:
        print(Separator(Halves(), device="cpu").separate(torch.zeros(2, 1000)).vocals.shape, flush=True)
    except OptionError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(("threads", "answer"), [("2", 'get_context("spawn")'), ("1", "(2, 1000)")])
def test_a_forked_process_that_would_hang_says_what_to_do(threads, answer):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    line = [sys.executable, "-c", FORK, threads]
    process = subprocess.run(line, capture_output=True, text=True, timeout=100, env=environment, check=True)
    assert answer in process.stdout
