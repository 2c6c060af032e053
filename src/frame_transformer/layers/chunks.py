"""Computes wide branches in chunks of frames, so that their intermediate values stay small."""

from collections.abc import Callable

import torch
from torch import Tensor

# 64 MiB of float32 inside a branch: large enough to cost no time, small compared with what long windows would need.
CHUNK_ELEMENTS = 1 << 24


def in_chunks(branch: Callable[[Tensor], Tensor], x: Tensor, elements: int, halo: int = 0) -> Tensor:
    """``branch(x)``, computed in chunks of the last axis if no gradients are needed.

    Args:
        branch: keeps the shape of x; each frame depends on at most ``halo`` frames on each side.
        x: (..., time).
        elements: the largest number of elements per frame inside the branch.
    """
    # The number of chunks is unknown in a program that is exported for any number of frames.
    if torch.is_grad_enabled() or is_symbolic(x) or elements * x.shape[-1] <= CHUNK_ELEMENTS:
        return branch(x)
    frames, length = x.shape[-1], max(1, CHUNK_ELEMENTS // elements)
    out = torch.empty_like(x)
    for start in range(0, frames, length):
        first, end = max(0, start - halo), min(frames, start + length)
        out[..., start:end] = branch(x[..., first : end + halo])[..., start - first : end - first]
    return out


def is_symbolic(x: Tensor) -> bool:
    """Whether the number of frames of x is symbolic, as during export."""
    return not isinstance(x.shape[-1], int)
