"""Convolutional blocks of the asymmetric U-Net: frequency is halved and restored, time keeps its length."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .linear import MultichannelLinear, SquaredReLU


class FrameConv(nn.Module):
    """A convolution over (frequency, time) followed by a linear layer along frequency for each channel.

    Args:
        channels: maps before and after.
        features: frequency bins before and after.
        kernel_size: odd size of the square kernel.

    The convolution is depthwise: each map has its own kernel, as each has its own linear layer.
    Shapes: (batch, channels, features, time) → the same.
    """

    def __init__(self, channels: int, features: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.linear = MultichannelLinear(channels, channels, features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x))


class ResBlock(nn.Module):
    """identity(x) + conv2(SqReLU(conv1(norm(x)))), pre-activation residual block (He et al. 2016, section 3).

    Args:
        in_channels, out_channels: channels before and after.
        features: frequency bins of the input.
        norm: the normalisation applied first.
        kernel_size: odd size of both square kernels.
        stride: stride over (frequency, time) of the second convolution and of the shortcut.
        linear: replace the convolutions by :class:`MultichannelLinear` (time stride must be 1).

    Shapes: (batch, in_channels, features, time) → (batch, out_channels, ⌈features / stride⌉, ⌈time / stride⌉).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: int,
        norm: nn.Module,
        *,
        kernel_size: int = 3,
        stride: tuple[int, int] = (1, 1),
        linear: bool = False,
    ):
        super().__init__()
        self.norm = norm
        self.activation = SquaredReLU()
        self.conv1: nn.Module
        self.conv2: nn.Module
        if linear:
            self.conv1 = MultichannelLinear(in_channels, out_channels, features, features)
            self.conv2 = MultichannelLinear(out_channels, out_channels, features, features // stride[0])
        else:
            padding = kernel_size // 2
            self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=False)
            self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.identity: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != (1, 1):
            self.identity = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.identity(x) + self.conv2(self.activation(self.conv1(self.norm(x))))


class FrameDecoder(nn.Module):
    """One level up: frequency is doubled, the encoder's map of that level is appended, a residual block merges both.

    Args:
        body: residual block from the channels of both inputs together to the level's channels.

    Shapes: x (batch, channels, F, time), skip (batch, skip channels, 2F, time) → (batch, out channels, 2F, time).
    """

    def __init__(self, body: ResBlock):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        upsampled = functional.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
        both = torch.cat((upsampled, skip), dim=1)
        del upsampled  # long windows feel it
        return self.body(both)
