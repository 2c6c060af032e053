"""Layer normalisation over frequency or channels of (batch, channels, frequency, time) tensors.

The norms differ in the axis that they normalise and in the shape of their affine parameters (Ba et al. 2016, "Layer
Normalization"). As in ``layer_norm``, statistics are computed at least in float32, because squared ReLUs produce values
whose squares overflow in half precision.
"""

import torch
from torch import Tensor, nn

from .chunks import in_chunks


def _normalize(x: Tensor, dim: int, eps: float, weight: Tensor, bias: Tensor) -> Tensor:
    """Layer normalisation along ``dim``.

    ``layer_norm`` needs the axis last; on the CPU, transposing takes 1.4 to 3.5 times as long as this, and ``var_mean``
    along ``dim`` even longer.
    """

    def normalize(x: Tensor) -> Tensor:
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = exact - exact.mean(dim, keepdim=True)
        # If all values are nearly equal, the rounding error of the mean would be amplified by 1 / √eps.
        centred = centred - centred.mean(dim, keepdim=True)
        deviation = (centred.square().mean(dim, keepdim=True) + eps).rsqrt()
        return torch.addcmul(bias, centred * deviation, weight).to(x.dtype)

    return in_chunks(normalize, x, x[..., :1].numel())


class MultichannelLayerNorm(nn.Module):
    """Normalises over frequency for each (batch, channel, time); each channel has its own affine parameters.

    Args:
        channels: channels. features: frequency bins.

    ``weight`` and ``bias`` are (channels, 1, features).
    """

    def __init__(self, channels: int, features: int, eps: float = 1e-8):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels, 1, features))
        self.bias = nn.Parameter(torch.zeros(channels, 1, features))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, features, time) → the same.

        Raises:
            ValueError: x has another shape.
        """
        channels, _, features = self.weight.shape
        if x.ndim != 4 or x.shape[1:3] != (channels, features):
            raise ValueError(f"expected (batch, {channels}, {features}, time), got {tuple(x.shape)}")
        return _normalize(x, 2, self.eps, self.weight.transpose(1, 2), self.bias.transpose(1, 2))


class FrameNorm(nn.Module):
    """Normalises over frequency, as V1 does; all channels share ``weight`` and ``bias``, both (features,)."""

    def __init__(self, features: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, features, time) → the same."""
        return _normalize(x, 2, self.eps, self.weight[:, None], self.bias[:, None])


class ChannelNorm(nn.Module):
    """Normalises over channels at each (batch, frequency, time); ``weight`` and ``bias`` are (channels,)."""

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frequency, time) → the same."""
        return _normalize(x, 1, self.eps, self.weight[:, None, None], self.bias[:, None, None])
