"""Feed-forward layers of the transformer blocks, with squared ReLU as activation."""

from torch import Tensor, nn

from .chunks import in_chunks
from .linear import MultichannelLinear, SquaredReLU


class LinearFeedForward(nn.Sequential):
    """features → hidden → features along frequency for each map.

    Args:
        maps: maps before and after. features: frequency bins before and after. hidden: width between.
    """

    def __init__(self, maps: int, features: int, hidden: int):
        super().__init__(
            MultichannelLinear(maps, maps, features, hidden),
            SquaredReLU(),
            MultichannelLinear(maps, maps, hidden, features),
        )
        self.width = maps * hidden

    def forward(self, x: Tensor) -> Tensor:
        """(batch, maps, features, time) → the same."""
        return in_chunks(super().forward, x, len(x) * self.width)


class ConvolutionalFeedForward(nn.Sequential):
    """maps → maps · expansion → maps with 3×3 convolutions.

    Args:
        maps: maps before and after. expansion: factor of the maps between.
    """

    def __init__(self, maps: int, expansion: int):
        super().__init__(
            nn.Conv2d(maps, maps * expansion, 3, padding=1),
            SquaredReLU(),
            nn.Conv2d(maps * expansion, maps, 3, padding=1),
        )
        self.width = maps * expansion

    def forward(self, x: Tensor) -> Tensor:
        """(batch, maps, frequency, time) → the same."""
        return in_chunks(super().forward, x, len(x) * self.width * x.shape[2], halo=2)
