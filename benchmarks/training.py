"""Training steps: forward and backward passes per second and their memory."""

import time

import torch

from frame_transformer.models import create_model, load_model

from .measuring import ChildFailedError, Result, in_child
from .networks import PUBLISHED


def steps(model: str, frames: int, batch_size: int, threads: int, repeats: int) -> Result:
    """Seconds of a forward and backward pass with random targets."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = PUBLISHED[model] if model in PUBLISHED else load_model(model).config
    network = create_model(config).train()
    x = torch.rand(batch_size, config.in_channels, config.features, frames)
    target = torch.rand_like(x)
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        network.zero_grad()
        (network(x).sigmoid() * x - target).abs().mean().backward()
        seconds.append(time.perf_counter() - started)
    return {"steps_per_second": 1 / sorted(seconds[1:])[repeats // 2]}


def run(quick: bool, threads: int) -> list[Result]:
    """Steps per second and peak memory; the optimizer's own state is not counted."""
    rows = []
    for model, frames, batch_size in [("tiny", 32, 1)] if quick else [("default", 256, 1), ("default", 256, 4)]:
        row: Result = {"model": model, "frames": frames, "batch_size": batch_size, "threads": threads}
        try:
            row |= in_child("benchmarks.training:steps", **row, repeats=3)
        except ChildFailedError as error:
            row["failed"] = str(error)
        rows.append(row)
    return rows
