"""Residual attention scores without time × time tensors.

RealFormer (He et al. 2020, section 3) adds the scores of earlier layers to those of a layer before its softmax. Without
non-linear operations on them, the running scores are a sum of products, and such a sum is itself a product:

    Σⱼ qⱼᵀkⱼ = [q₁; …; qₙ]ᵀ [k₁; …; kₙ]

So softmax(scores) · values is plain attention over concatenated queries and keys. The running scores are kept as
queries and keys, which later sums share. :mod:`.tiling` computes with them in bounded memory.
"""

import torch
from torch import Tensor

from . import tiling
from .chunks import is_symbolic


class ResidualScores:
    """The scores of an attention layer and of those before it, as their queries and keys.

    Args:
        products: queries and keys of each layer, both (batch, maps, heads, width, time), already scaled and rotated.
        base: (batch, maps, heads, query time, key time) scores that are not a product, such as those of a gate, or
            None.
        in_place: earlier sums are not needed again, so in inference the next one may overwrite them.
    """

    def __init__(self, *products: tiling.Product, base: Tensor | None = None, in_place: bool = False):
        self.products = products
        self.base = base
        self.in_place = in_place

    def add(self, queries: Tensor, keys: Tensor) -> "ResidualScores":
        """Adds qᵀk of one more layer; queries and keys are (batch, maps, heads, width, time)."""
        products = (*self.products, (queries, keys))
        if tiling.should_sum(products, self.in_place):
            total = tiling.sum_products(products, self.base, self.in_place)
            return ResidualScores(base=total, in_place=self.in_place)
        return ResidualScores(*products, base=self.base, in_place=self.in_place)

    def dense(self) -> Tensor:
        """The scores as one tensor: (batch, maps, heads, query time, key time)."""
        return tiling.sum_products(self.products, self.base)

    def attend(self, values: Tensor) -> Tensor:
        """softmax(scores) · values: (batch, maps, heads, features, time) → the same shape."""
        if is_symbolic(values):
            return torch.matmul(values, self.dense().softmax(dim=-1).mT)
        return tiling.attend(self.products, self.base, values)
