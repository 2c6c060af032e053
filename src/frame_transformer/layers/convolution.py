"""Convolutional blocks of the asymmetric U-Net, which halve and double frequency and leave time unchanged."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .linear import MultichannelLinear, SquaredReLU
from .norm import MultichannelLayerNorm

# Creates a norm for (channels, frequency bins).
Norm = Callable[[int, int], nn.Module]


class FrameConv(nn.Module):
    """A depthwise convolution over (frequency, time), then a linear layer along frequency for each channel.

    Args:
        channels: maps before and after; each has its own kernel and its own linear layer.
        features: frequency bins before and after.
        kernel_size: odd size of the square kernel.
    """

    def __init__(self, channels: int, features: int, kernel_size: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.linear = MultichannelLinear(channels, channels, features, features)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, features, time) → the same."""
        return self.linear(self.conv(x))


class ResBlock(nn.Module):
    """identity(x) + conv2(SqReLU(conv1(norm(x)))), pre-activation residual block (He et al. 2016, section 3).

    Args:
        in_channels, out_channels: channels before and after.
        features: frequency bins of the input.
        norm: creates the normalisation layer.
        kernel_size: odd size of both square kernels.
        stride: stride (frequency, time) of the second convolution and of the shortcut.
        linear: replace the convolutions by :class:`MultichannelLinear` (the stride over time must be 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: int,
        *,
        norm: Norm = MultichannelLayerNorm,
        kernel_size: int = 3,
        stride: tuple[int, int] = (1, 1),
        linear: bool = False,
    ):
        super().__init__()
        self.norm = norm(in_channels, features)
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
        """(batch, in_channels, features, time) → (batch, out_channels, ⌈features / stride⌉, ⌈time / stride⌉)."""
        return self.identity(x) + self.conv2(self.activation(self.conv1(self.norm(x))))


class FrameEncoder(nn.Module):
    """One level down: a residual block that halves frequency and leaves time unchanged.

    Args:
        in_channels, out_channels: channels before and after.
        features: frequency bins of the input.
        halve: false for the topmost level, which leaves frequency unchanged, too.
        norm, linear: of the :class:`ResBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: int,
        *,
        halve: bool = True,
        norm: Norm = MultichannelLayerNorm,
        linear: bool = False,
    ):
        super().__init__()
        stride = (2, 1) if halve else (1, 1)
        self.body = ResBlock(in_channels, out_channels, features, norm=norm, stride=stride, linear=linear)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, features, time) → (batch, out_channels, features / 2, time)."""
        return self.body(x)


class FrameDecoder(nn.Module):
    """One level up: doubles frequency, appends the encoder's maps of that level, and applies a residual block.

    Args:
        in_channels: channels from the level below.
        skip_channels: channels of the encoder's maps.
        out_channels: channels after.
        features: frequency bins after.
        norm, linear: of the :class:`ResBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        features: int,
        *,
        norm: Norm = MultichannelLayerNorm,
        linear: bool = False,
    ):
        super().__init__()
        self.body = ResBlock(in_channels + skip_channels, out_channels, features, norm=norm, linear=linear)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """x (batch, in_channels, any, time), skip (batch, skip_channels, features, time).

        Returns:
            (batch, out_channels, features, time).
        """
        upsampled = functional.interpolate(x, size=skip.shape[2:], mode="bilinear", align_corners=True)
        both = torch.cat((upsampled, skip), dim=1)
        del upsampled  # frees memory, which matters for long windows
        return self.body(both)


class HeadConv3d(nn.Conv3d):
    """A 3×3×3 convolution over (heads, query time, key time), computed as 2-D convolutions over neighbouring heads.

    PyTorch has no fast 3-D kernel for a batch of one on the CPU; this takes an eighth of the time.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, heads, height, width) → (batch, out_channels, heads, height, width)."""
        x = x.transpose(1, 2)  # batch, heads, channels, height, width

        def convolve(heads: slice, depth: int, bias: Tensor | None = None) -> Tensor:
            some = x[:, heads]
            out = functional.conv2d(some.flatten(0, 1), self.weight[:, :, depth], bias, padding=1)
            return out.unflatten(0, some.shape[:2])

        out = convolve(slice(None), 1, self.bias)
        if x.shape[1] > 1:
            out[:, 1:] += convolve(slice(None, -1), 0)
            out[:, :-1] += convolve(slice(1, None), 2)
        return out.transpose(1, 2)
