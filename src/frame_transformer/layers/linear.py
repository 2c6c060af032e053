"""Linear layers along the frequency axis, one per channel, and the activation used between them."""

import math

import torch
from einops import rearrange
from torch import Tensor, nn


class SquaredReLU(nn.Module):
    """max(x, 0)², the activation of Primer (So et al. 2021, section 4.1)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same."""
        return torch.relu(x).square()


class MultichannelLinear(nn.Module):
    """A linear layer along frequency for each channel, without bias.

    Args:
        in_channels, out_channels: channels before and after.
        in_features, out_features: frequency bins before and after.

    ``weight_pw`` (in_channels, out_features, in_features) acts along frequency. If the number of channels changes,
    ``weight_dw`` (out_channels, in_channels) then mixes them like a 1×1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, in_features: int, out_features: int):
        super().__init__()
        self.weight_pw = nn.Parameter(torch.empty(in_channels, out_features, in_features))
        self.weight_dw = nn.Parameter(torch.empty(out_channels, in_channels)) if in_channels != out_channels else None
        for weight in (self.weight_pw, self.weight_dw):
            if weight is not None:
                bound = 1 / math.sqrt(weight.shape[-1])
                nn.init.uniform_(weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, in_features, time) → (batch, out_channels, out_features, time).

        Raises:
            ValueError: x has another shape.
        """
        channels, _, features = self.weight_pw.shape
        if x.ndim != 4 or x.shape[1:3] != (channels, features):
            raise ValueError(f"expected (batch, {channels}, {features}, time), got {tuple(x.shape)}")
        batch = x.shape[0]
        # One batched product over channels. The batch is folded into time, so that weights are not repeated.
        x = torch.bmm(self.weight_pw, rearrange(x, "b c f t -> c f (b t)"))
        x = rearrange(x, "c f (b t) -> b c f t", b=batch)
        if self.weight_dw is not None:
            mixed = torch.matmul(self.weight_dw, rearrange(x, "b c f t -> b c (f t)"))
            x = rearrange(mixed, "b c (f t) -> b c f t", f=x.shape[2])
        return x
