"""Positional embeddings: rotary for queries and keys, and a convolutional map of positions for inputs."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolution import ResBlock

BASE = 10_000.0  # of the wavelengths of both kinds of positions, from 2π to 2π · BASE frames
SCALES = 9
MIN_FEATURES = 2 ** (SCALES - 1)


def apply_rotary_embedding(x: Tensor) -> Tensor:
    """Rotates adjacent feature pairs by angles that grow with time (RoFormer, Su et al. 2021, section 3.2).

    Args:
        x: (..., features, time). Features 2i and 2i + 1 are rotated by time · 10000^(−2i / features); an odd last
            feature is left unchanged.

    Returns:
        the rotated tensor, of the same shape.
    """
    features, frames = x.shape[-2:]
    pairs = features // 2
    if pairs == 0:
        return x
    exponent = torch.arange(pairs, device=x.device, dtype=_angle_dtype(x.device)) * (2 / features)
    angles = (BASE**-exponent)[:, None] * torch.arange(frames, device=x.device, dtype=exponent.dtype)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    even, odd = x[..., 0 : 2 * pairs : 2, :], x[..., 1 : 2 * pairs : 2, :]
    rotated = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-2).flatten(-3, -2)
    return rotated if features % 2 == 0 else torch.cat((rotated, x[..., -1:, :]), dim=-2)


def sinusoidal_positions(features: int, frames: int, device: torch.device) -> Tensor:
    """Sinusoids along frequency for each frame (Vaswani et al. 2017, section 3.5): even bins sine, odd bins cosine.

    Returns:
        (1, 1, features, frames) float64, on MPS float32. ``features`` is even.
    """
    bins = torch.arange(0, features, 2, device=device, dtype=_angle_dtype(device))
    angles = torch.exp(bins * (-math.log(BASE) / features))[:, None] * torch.arange(frames, device=device)
    return torch.stack((angles.sin(), angles.cos()), dim=1).reshape(1, 1, features, frames)


def _angle_dtype(device: torch.device) -> torch.dtype:
    """An angle of a thousand radians is off by 3e-5 in float32, and so are its sine and cosine."""
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64


class ConvolutionalEmbedding(nn.Module):
    """Computes one map of positions in time and frequency, learned at nine scales.

    After Islam et al. 2020, "How much position information do convolutional neural networks encode?", section 3: a
    convolutional branch infers positions from its zero padding, at every scale of a pyramid.

    Args:
        in_channels: input maps.
        features: frequency bins, at least 256.
        sinusoidal: append a map of sinusoids to the input first (AsymUNetMCT and V2b do, V3 does not).

    Raises:
        ValueError: fewer than 256 bins.
    """

    def __init__(self, in_channels: int, features: int, sinusoidal: bool = True):
        super().__init__()
        if features < MIN_FEATURES:
            raise ValueError(f"ConvolutionalEmbedding needs at least {MIN_FEATURES} frequency bins, got {features}")
        self.sinusoidal = sinusoidal
        widths = [in_channels + sinusoidal, *(in_channels * m for m in range(2, 2 * SCALES, 2))]
        self.extract = nn.ModuleList(
            ResBlock(width, 1, features >> scale, kernel_size=11) for scale, width in enumerate(widths)
        )
        self.encode = nn.ModuleList(
            ResBlock(width, wider, features >> scale, stride=(2, 2))
            for scale, (width, wider) in enumerate(pairwise(widths))
        )
        self.out = ResBlock(SCALES, 1, features, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, features, time) → (batch, 1, features, time); any time."""
        features, frames = x.shape[2:]
        if self.sinusoidal:
            positions = sinusoidal_positions(features, frames, x.device).to(x.dtype)
            x = torch.cat((x, positions.expand(x.shape[0], -1, -1, -1)), dim=1)
        maps = [self.extract[0](x)]
        for encode, extract in zip(self.encode, self.extract[1:], strict=True):
            x = encode(x)
            maps.append(functional.interpolate(extract(x), (features, frames), mode="bilinear", align_corners=True))
        return self.out(torch.cat(maps, dim=1))
