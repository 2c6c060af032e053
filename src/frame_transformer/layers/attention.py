"""Attention over frames with residual scores, kept as products of queries and keys instead of time × time tensors."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from .embedding import apply_rotary_embedding
from .linear import MultichannelLinear, SquaredReLU

# A tile of scores of this many elements (2 MiB of float32) is made, used and dropped while it is in the cache. It takes
# 0.7 of the time of tiles of 64 MiB at 2048 frames; fused scaled_dot_product_attention wants values as wide as the
# concatenated keys and takes 1.8 to 3.3 times as long wherever scores of several layers add up.
TILE_ELEMENTS = 1 << 19
# An accelerator has no use for the cache's size, but every tile costs it a launch.
ACCELERATOR_TILE_ELEMENTS = 1 << 26
# Above this width of the concatenation the sum itself is kept, as recomputing it costs more than its memory. Where that
# memory is small (32 MiB of float32), or the sum can grow in place, one wide layer is enough.
FOLD_WIDTH = 640
SMALL_FOLD_WIDTH = 128
SMALL_ELEMENTS = 1 << 23

Product = tuple[Tensor, Tensor]


class ResidualScores:
    """Attention scores before the softmax, summed over layers (RealFormer, He et al. 2020, section 3).

    A sum of products is itself a product: Σⱼ qⱼᵀkⱼ = [q₁; …; qₙ]ᵀ[k₁; …; kₙ]. The running scores are therefore kept as
    queries and keys, which later sums share, and the time × time tensor is made a tile at a time, unless something
    non-linear has touched it (``base``) or the concatenation has grown too wide.

    Args:
        products: queries and keys of each layer, (batch, maps, heads, width, time), already scaled and rotated.
        base: (batch, maps, heads, time, time) scores that are no product, or None.
        in_place: nobody looks at earlier sums, so that in inference the next one may overwrite them.
    """

    def __init__(self, *products: Product, base: Tensor | None = None, in_place: bool = False):
        self.products = products
        self.base = base
        self.in_place = in_place

    def add(self, queries: Tensor, keys: Tensor) -> "ResidualScores":
        """The scores with qᵀk of one more layer added."""
        scores = ResidualScores(*self.products, (queries, keys), base=self.base, in_place=self.in_place)
        *heads, _, frames = queries.shape
        # Neither where gradients are wanted, as every tile's would be as large as the sum, nor in a program exported
        # for any number of frames.
        if not torch.is_grad_enabled() and isinstance(frames, int):
            cheap = self.in_place or math.prod(heads) * frames * frames <= SMALL_ELEMENTS
            if sum(q.shape[-2] for q, _ in scores.products) > (SMALL_FOLD_WIDTH if cheap else FOLD_WIDTH):
                scores = ResidualScores(base=scores.dense(self.in_place), in_place=self.in_place)
        return scores

    def _concatenated(self, heads: slice) -> Product:
        """Queries and keys (heads, width, time) of some of the batch · maps · heads."""
        queries, keys = zip(*((q.flatten(0, 2)[heads], k.flatten(0, 2)[heads]) for q, k in self.products), strict=True)
        return (queries[0], keys[0]) if len(queries) == 1 else (torch.cat(queries, dim=1), torch.cat(keys, dim=1))

    def dense(self, in_place: bool = False) -> Tensor:
        """(batch, maps, heads, query time, key time); ``in_place`` overwrites ``base``."""
        if not self.products:
            assert self.base is not None
            return self.base
        queries, keys = self._concatenated(slice(None))
        if self.base is None:
            scores = torch.bmm(queries.transpose(1, 2), keys)
        else:
            base = self.base.flatten(0, 2)
            add = base.baddbmm_ if in_place else base.baddbmm
            scores = add(queries.transpose(1, 2), keys)
        return scores.unflatten(0, self.products[0][0].shape[:3])

    def attend(self, values: Tensor) -> Tensor:
        """softmax(scores) · values: (batch, maps, heads, features, time) → the same shape."""
        key_frames = values.shape[-1]
        if not isinstance(key_frames, int):
            # Exported for any number of frames: how many tiles there would be is not known.
            return torch.matmul(values, self.dense().softmax(dim=-1).transpose(-1, -2))
        frames = self.products[0][0].shape[-1] if self.base is None else self.base.shape[-2]
        base, flat_values = None if self.base is None else self.base.flatten(0, 2), values.flatten(0, 2)
        heads = len(flat_values)
        tile = TILE_ELEMENTS if values.device.type == "cpu" else ACCELERATOR_TILE_ELEMENTS
        together = min(heads, max(1, tile // (frames * key_frames)))
        rows = min(frames, max(1, tile // (together * key_frames)))
        out = []
        for start in range(0, heads, together):
            part = slice(start, start + together)
            product = self._concatenated(part) if self.products else None
            columns = []
            for first in range(0, frames, rows):
                seen = slice(first, first + rows)
                if product is None:
                    assert base is not None
                    scores = base[part, seen]
                else:
                    queries, keys = product[0][..., seen].transpose(1, 2), product[1]
                    scores = (
                        torch.bmm(queries, keys) if base is None else torch.baddbmm(base[part, seen], queries, keys)
                    )
                columns.append(torch.bmm(flat_values[part], scores.softmax(dim=-1).transpose(1, 2)))
            out.append(columns[0] if len(columns) == 1 else torch.cat(columns, dim=2))
        return torch.cat(out).unflatten(0, values.shape[:3])


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"{width} features cannot be split into {heads} heads")


class MultichannelMultiheadAttention(nn.Module):
    """Self- or cross-attention between frames, separately in each map.

    Args:
        channels: maps.
        heads: heads per map; must divide ``features``.
        features: frequency bins, the embedding of a frame.
        projection: what makes queries, keys and values. ``"linear"``: a linear layer per map (V1);
        ``"linear_conv"``: then
            a 1×3 convolution mixing maps (AsymUNetMCT); ``"conv_linear"``: a depthwise 9×9 convolution, then the linear
            layer (V2b, V3). The convolutions follow Primer's multi-DConv-head attention (So et al. 2021, section 4.2).

    Scores are divided by √features (all bins, not the head's), queries and keys are rotated over time.
    """

    def __init__(
        self, channels: int, heads: int, features: int, projection: Literal["linear", "linear_conv", "conv_linear"]
    ):
        super().__init__()
        _check_heads(features, heads)
        self.heads = heads
        self.scale = 1 / math.sqrt(features)

        def project() -> nn.Module:
            linear = MultichannelLinear(channels, channels, features, features)
            if projection == "linear_conv":
                return nn.Sequential(linear, nn.Conv2d(channels, channels, (1, 3), padding=(0, 1)))
            if projection == "conv_linear":
                conv = nn.Conv2d(channels, channels, 9, padding=4, groups=channels, bias=False)
                return nn.Sequential(conv, linear)
            return linear

        self.q_proj = project()
        self.k_proj = project()
        self.v_proj = project()
        self.o_proj = MultichannelLinear(channels, channels, features, features)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, residual: ResidualScores | None = None
    ) -> tuple[Tensor, ResidualScores]:
        """Attends from x to ``memory`` (to itself when None); all (batch, channels, features, time).

        Returns:
            the attended x and the running scores, ``residual`` included.
        """
        memory = x if memory is None else memory
        queries, keys, values = (
            projection(source).unflatten(2, (self.heads, -1))
            for projection, source in ((self.q_proj, x), (self.k_proj, memory), (self.v_proj, memory))
        )
        queries, keys = apply_rotary_embedding(queries * self.scale), apply_rotary_embedding(keys)
        scores = (residual or ResidualScores()).add(queries, keys)
        return self.o_proj(scores.attend(values).flatten(2, 3)), scores


class ConvolutionalMultiheadAttention(nn.Module):
    """Self-attention between all (frequency, time) positions with channels as their embedding.

    Args:
        channels: width of a position; ``heads`` must divide it.

    Queries, keys and values come from 3×3 convolutions; positions are numbered frequency-major (f · time + t).
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        _check_heads(channels, heads)
        self.heads = heads
        self.scale = 1 / math.sqrt(channels)
        self.q_proj = nn.Conv2d(channels, channels, 3, padding=1)
        self.k_proj = nn.Conv2d(channels, channels, 3, padding=1)
        self.v_proj = nn.Conv2d(channels, channels, 3, padding=1)
        self.o_proj = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, residual: ResidualScores | None = None) -> tuple[Tensor, ResidualScores]:
        """(batch, channels, frequency, time) → the same, and the running scores over frequency · time positions."""
        queries, keys, values = (
            # One map, so that both kinds of attention share (batch, maps, heads, width, positions).
            projection(x).flatten(2).unflatten(1, (1, self.heads, -1))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = apply_rotary_embedding(queries * self.scale), apply_rotary_embedding(keys)
        scores = (residual or ResidualScores()).add(queries, keys)
        return self.o_proj(scores.attend(values).reshape(x.shape)), scores


class ScoreGate(nn.Sequential):
    """A learned blend g·running + (1 − g)·skip of two score tensors, with g from 3-D convolutions over both.

    The convolutions see (heads, query time, key time) with the maps of both tensors as channels.
    """

    def __init__(self, maps: int):
        super().__init__(
            nn.Conv3d(2 * maps, maps, 3, padding=1), SquaredReLU(), nn.Conv3d(maps, 1, 3, padding=1), nn.Sigmoid()
        )

    def forward(self, scores: Tensor) -> Tensor:
        """(batch, 2 · maps, heads, query time, key time) → (batch, 1, heads, query time, key time)."""
        first, activation, second, sigmoid = self
        hidden = activation(_convolve_heads(first, scores.transpose(1, 2)))
        return sigmoid(_convolve_heads(second, hidden)).transpose(1, 2)

    def blend(self, running: ResidualScores, skip: ResidualScores) -> ResidualScores:
        dense, dense_skip = running.dense(), skip.dense()
        gate = self(torch.cat((dense, dense_skip), dim=1))
        return ResidualScores(base=torch.lerp(dense_skip, dense, gate))


def _convolve_heads(conv: Any, x: Tensor) -> Tensor:
    """``conv`` (nn.Conv3d) of (batch, heads, channels, height, width), as 2-D ones over each head and its neighbours.

    On the CPU PyTorch has no fast 3-D kernel for a batch of one; this takes an eighth of the time.
    """

    def convolve(heads: slice, depth: int, bias: Tensor | None = None) -> Tensor:
        part = x[:, heads]
        out = functional.conv2d(part.flatten(0, 1), conv.weight[:, :, depth], bias, padding=1)
        return out.unflatten(0, part.shape[:2])

    out = convolve(slice(None), 1, conv.bias)
    if x.shape[1] > 1:
        out[:, 1:] += convolve(slice(None, -1), 0)
        out[:, :-1] += convolve(slice(1, None), 2)
    return out
