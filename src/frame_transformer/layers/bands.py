"""Frequency bands of unequal resolution: fine at the low frequencies of voices, coarse above."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

Bands = Sequence[tuple[int, int]]


class BandSplit(nn.Module):
    """Splits the frequency axis into bands and each band into patches, and maps every patch to one position.

    Each band has its own linear layer, as in the band-split RNN (Luo and Yu 2023, section III-A). The patches of a band
    share it.

    Args:
        in_channels, out_channels: channels before and after.
        bands: (bins, bins per patch) of each band, from low to high frequency.
    """

    def __init__(self, in_channels: int, out_channels: int, bands: Bands):
        super().__init__()
        self.sizes = [bins for bins, _ in bands]
        self.patches = [patch for _, patch in bands]
        self.bands = nn.ModuleList(nn.Conv2d(in_channels * patch, out_channels, 1) for patch in self.patches)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, bins, time) → (batch, out_channels, positions, time), one position per patch."""
        parts = x.split(self.sizes, dim=2)
        return torch.cat(
            [
                band(rearrange(part, "b c (f patch) t -> b (c patch) f t", patch=patch))
                for band, part, patch in zip(self.bands, parts, self.patches, strict=True)
            ],
            dim=2,
        )


class BandMerge(nn.Module):
    """The inverse of :class:`BandSplit`: maps every position to the bins of its patch.

    Args:
        in_channels, out_channels: channels before and after.
        bands: (bins, bins per patch) of each band, from low to high frequency.
    """

    def __init__(self, in_channels: int, out_channels: int, bands: Bands):
        super().__init__()
        self.sizes = [bins // patch for bins, patch in bands]
        self.patches = [patch for _, patch in bands]
        self.bands = nn.ModuleList(nn.Conv2d(in_channels, out_channels * patch, 1) for patch in self.patches)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, positions, time) → (batch, out_channels, bins, time)."""
        parts = x.split(self.sizes, dim=2)
        return torch.cat(
            [
                rearrange(band(part), "b (c patch) f t -> b c (f patch) t", patch=patch)
                for band, part, patch in zip(self.bands, parts, self.patches, strict=True)
            ],
            dim=2,
        )
