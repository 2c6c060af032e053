"""Wide branches over a part of the frames at a time, so that what lies inside them never exists for a whole window."""

from collections.abc import Callable

import torch
from torch import Tensor

# 64 MiB of float32 inside a branch: far above what costs time, far below what long windows would need.
PART_ELEMENTS = 1 << 24


def in_parts(branch: Callable[[Tensor], Tensor], x: Tensor, elements: int, halo: int = 0) -> Tensor:
    """``branch(x)``, computed over parts of the last axis where no gradient is wanted.

    Args:
        branch: keeps the shape of x and looks no further than ``halo`` frames to either side.
        elements: the largest number of elements that one frame has inside the branch.
    """
    frames = x.shape[-1]
    # A program exported for any number of frames cannot know how many parts there are.
    if torch.is_grad_enabled() or not isinstance(frames, int) or elements * frames <= PART_ELEMENTS:
        return branch(x)
    length = max(1, PART_ELEMENTS // elements)
    out = torch.empty_like(x)
    for start in range(0, frames, length):
        first, end = max(0, start - halo), min(frames, start + length)
        out[..., start:end] = branch(x[..., first : end + halo])[..., start - first : end - first]
    return out
