"""Training steps: forward and backward passes per second and their memory."""

import statistics

import torch

from frame_transformer.checkpoints import load_model
from frame_transformer.models import create_model
from frame_transformer.training.stage import checkpoint_blocks

from .measuring import ChildFailedError, Result, in_child, timed
from .networks import PUBLISHED

CASES = [("default", 128, 3), ("asym_unet_mct", 64, 1)]


def steps(model: str, frames: int, batch_size: int, threads: int, checkpointing: bool, repeats: int) -> Result:
    """Forward and backward passes with random targets, with or without gradient checkpointing."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = PUBLISHED[model] if model in PUBLISHED else load_model(model).config
    network = create_model(config).train()
    if checkpointing:
        checkpoint_blocks(network)
    x = torch.rand(batch_size, config.signal.inputs, config.signal.features, frames)
    magnitudes = x[:, : config.signal.channels]
    target = torch.rand_like(magnitudes)

    def step() -> None:
        network.zero_grad()
        (network(x).sigmoid() * magnitudes - target).abs().mean().backward()

    step()
    laps = [timed(step) for _ in range(repeats)]
    return {
        "steps_per_second": 1 / statistics.median(lap.wall for lap in laps),
        "processor_s_per_step": statistics.median(lap.processor for lap in laps),
    }


def run(quick: bool, threads: int) -> list[Result]:
    """Steps per second and peak memory; the optimizer's own state is not counted."""
    rows = []
    for model, frames, batch_size in [("tiny", 32, 1)] if quick else CASES:
        for checkpointing in (False, True):
            row: Result = {"model": model, "frames": frames, "batch_size": batch_size, "threads": threads}
            row["checkpointing"] = checkpointing
            try:
                row |= in_child("benchmarks.training:steps", **row, repeats=3)
            except ChildFailedError as error:
                row["failed"] = str(error)
            rows.append(row)
    return rows
