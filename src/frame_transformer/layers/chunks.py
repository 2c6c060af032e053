"""Wide branches in chunks of the frames, so that what lies inside them never exists for a whole window."""

from collections.abc import Callable

import torch
from torch import Tensor

# 64 MiB of float32 inside a branch: far above what costs time, far below what long windows would need.
CHUNK_ELEMENTS = 1 << 24


def in_chunks(branch: Callable[[Tensor], Tensor], x: Tensor, elements: int, halo: int = 0) -> Tensor:
    """``branch(x)``, computed in chunks of the last axis where no gradient is wanted.

    Args:
        branch: keeps the shape of x and looks no further than ``halo`` frames to either side.
        x: (..., time).
        elements: the largest number of elements that one frame has inside the branch.
    """
    # In a program exported for any number of frames it is not known how many chunks there are.
    if torch.is_grad_enabled() or is_symbolic(x) or elements * x.shape[-1] <= CHUNK_ELEMENTS:
        return branch(x)
    frames, length = x.shape[-1], max(1, CHUNK_ELEMENTS // elements)
    out = torch.empty_like(x)
    for start in range(0, frames, length):
        first, end = max(0, start - halo), min(frames, start + length)
        out[..., start:end] = branch(x[..., first : end + halo])[..., start - first : end - first]
    return out


def is_symbolic(x: Tensor) -> bool:
    """Whether x stands for tensors of any number of frames, as when a model is exported."""
    return not isinstance(x.shape[-1], int)
