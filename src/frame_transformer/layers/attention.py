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
# Above this width recomputing old products costs more than keeping their sum.
FOLD_WIDTH = 640


class ResidualScores:
    """Attention scores before the softmax, summed over layers (RealFormer, He et al. 2020, section 3).

    A sum of products is itself a product: Σⱼ qⱼᵀkⱼ = [q₁; …; qₙ]ᵀ[k₁; …; kₙ]. The running scores are therefore kept as
    concatenated queries and keys, and the time × time tensor is made a tile at a time, unless something non-linear has
    touched it (``base``) or the concatenation has grown wider than ``FOLD_WIDTH``.

    Args:
        queries, keys: (batch, maps, heads, width, time), already scaled and rotated.
        base: (batch, maps, heads, time, time) scores that are no product, or None.
    """

    def __init__(self, queries: Tensor | None, keys: Tensor | None, base: Tensor | None = None):
        self.queries = queries
        self.keys = keys
        self.base = base

    def add(self, queries: Tensor, keys: Tensor) -> "ResidualScores":
        """The scores with qᵀk of one more layer added."""
        base = self.base
        if self.queries is not None and self.keys is not None:
            if self.queries.shape[-2] + queries.shape[-2] > FOLD_WIDTH:
                base = self.dense()
            else:
                queries = torch.cat((self.queries, queries), dim=-2)
                keys = torch.cat((self.keys, keys), dim=-2)
        return ResidualScores(queries, keys, base)

    def dense(self) -> Tensor:
        """(batch, maps, heads, query time, key time)."""
        if self.queries is None or self.keys is None:
            assert self.base is not None
            return self.base
        scores = torch.matmul(self.queries.transpose(-1, -2), self.keys)
        return scores if self.base is None else scores.add_(self.base)

    def attend(self, values: Tensor) -> Tensor:
        """softmax(scores) · values: (batch, maps, heads, features, time) → the same shape."""
        assert self.queries is not None and self.keys is not None
        if not isinstance(values.shape[-1], int):
            # Exported for any number of frames: how many tiles there would be is not known.
            return torch.matmul(values, self.dense().softmax(dim=-1).transpose(-1, -2))
        queries, keys, flat_values = self.queries.flatten(0, 2), self.keys.flatten(0, 2), values.flatten(0, 2)
        base = None if self.base is None else self.base.flatten(0, 2)
        heads, frames, key_frames = len(queries), queries.shape[-1], keys.shape[-1]
        tile = TILE_ELEMENTS if queries.device.type == "cpu" else ACCELERATOR_TILE_ELEMENTS
        together = min(heads, max(1, tile // (frames * key_frames)))
        rows = min(frames, max(1, tile // (together * key_frames)))
        out = []
        for start in range(0, heads, together):
            part = slice(start, start + together)
            columns = []
            for first in range(0, frames, rows):
                seen = slice(first, first + rows)
                scores = torch.bmm(queries[part, :, seen].transpose(1, 2), keys[part])
                if base is not None:
                    scores = scores + base[part, seen]
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
        scores = ResidualScores(queries, keys) if residual is None else residual.add(queries, keys)
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
        scores = ResidualScores(queries, keys) if residual is None else residual.add(queries, keys)
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
        return ResidualScores(None, None, torch.lerp(dense_skip, dense, gate))


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
