"""Attention between frames, or between positions, with residual scores (RealFormer, He et al. 2020)."""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from .convolution import HeadConv3d
from .embedding import apply_rotary_embedding
from .linear import MultichannelLinear, SquaredReLU
from .scores import ResidualScores


def linear_projection(maps: int, features: int) -> nn.Module:
    """A linear layer along frequency per map (V1)."""
    return MultichannelLinear(maps, maps, features, features)


def linear_conv_projection(maps: int, features: int) -> nn.Module:
    """The linear layer, then a 1×3 convolution that mixes maps (AsymUNetMCT).

    Convolutions in projections follow Primer's multi-DConv-head attention (So et al. 2021, section 4.2).
    """
    return nn.Sequential(
        MultichannelLinear(maps, maps, features, features), nn.Conv2d(maps, maps, (1, 3), padding=(0, 1))
    )


def conv_linear_projection(maps: int, features: int) -> nn.Module:
    """A depthwise 9×9 convolution, then the linear layer (V2b, V3)."""
    return nn.Sequential(
        nn.Conv2d(maps, maps, 9, padding=4, groups=maps, bias=False),
        MultichannelLinear(maps, maps, features, features),
    )


class MultichannelMultiheadAttention(nn.Module):
    """Self- or cross-attention between frames, separately in each map.

    Args:
        maps: maps, each a sequence of frames of its own.
        features: frequency bins, the embedding of a frame.
        heads: heads per map; must divide ``features``.
        projection: creates the layer for queries, keys or values, such as :func:`linear_projection`.

    Scores are divided by √features (all bins, not those of a head). Queries and keys have rotary positions over time.

    Raises:
        ValueError: ``features`` is not a multiple of ``heads``.
    """

    def __init__(self, maps: int, features: int, heads: int, projection: Callable[[int, int], nn.Module]):
        super().__init__()
        _check_heads(features, heads)
        self.heads = heads
        self.scale = 1 / math.sqrt(features)
        self.q_proj = projection(maps, features)
        self.k_proj = projection(maps, features)
        self.v_proj = projection(maps, features)
        self.o_proj = linear_projection(maps, features)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, residual: ResidualScores | None = None
    ) -> tuple[Tensor, ResidualScores]:
        """Attends from x to ``memory`` (to itself when None); both (batch, maps, features, time).

        Returns:
            the attended x, of the same shape, and the running scores, which include ``residual``.
        """
        memory = x if memory is None else memory
        queries, keys, values = self.q_proj(x), self.k_proj(memory), self.v_proj(memory)
        queries, keys, values = (
            rearrange(each, "b maps (heads f) t -> b maps heads f t", heads=self.heads)
            for each in (queries, keys, values)
        )
        scores = _add(residual, queries * self.scale, keys)
        return self.o_proj(rearrange(scores.attend(values), "b maps heads f t -> b maps (heads f) t")), scores


class ConvolutionalMultiheadAttention(nn.Module):
    """Self-attention between all (frequency, time) positions with channels as their embedding.

    Queries, keys and values come from 3×3 convolutions; positions are numbered frequency-major (f · time + t).

    Args:
        channels: width of a position.
        heads: must divide ``channels``.

    Raises:
        ValueError: ``channels`` is not a multiple of ``heads``.
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
            # One map, so that both kinds of attention have scores of (batch, maps, heads, positions, positions).
            rearrange(projection(x), "b (maps heads c) f t -> b maps heads c (f t)", maps=1, heads=self.heads)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = _add(residual, queries * self.scale, keys)
        attended = rearrange(scores.attend(values), "b maps heads c (f t) -> b (maps heads c) f t", f=x.shape[2])
        return self.o_proj(attended), scores


class ScoreGate(nn.Sequential):
    """A learned blend g · running + (1 − g) · skip of two score tensors, with g from 3-D convolutions over both.

    The convolutions see (heads, query time, key time) with the maps of both tensors as channels:
    (batch, 2 · maps, heads, query time, key time) → g of (batch, 1, heads, query time, key time).
    """

    def __init__(self, maps: int):
        super().__init__(HeadConv3d(2 * maps, maps), SquaredReLU(), HeadConv3d(maps, 1), nn.Sigmoid())

    def blend(self, running: ResidualScores, skip: ResidualScores) -> ResidualScores:
        """The blended scores, which can no longer be kept as a product."""
        dense, dense_skip = running.dense(), skip.dense()
        gate = self(torch.cat((dense, dense_skip), dim=1))
        return ResidualScores(base=torch.lerp(dense_skip, dense, gate))


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"{width} features cannot be split into {heads} heads")


def _add(residual: ResidualScores | None, queries: Tensor, keys: Tensor) -> ResidualScores:
    """Rotates queries and keys and adds their scores to the running scores."""
    return (residual or ResidualScores()).add(apply_rotary_embedding(queries), apply_rotary_embedding(keys))
