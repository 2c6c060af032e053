"""V1 ("thin"): a six-level asymmetric U-Net with a one-map transformer after every level."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import (
    FrameDecoder,
    FrameEncoder,
    FrameNorm,
    LinearFeedForward,
    MultichannelMultiheadAttention,
    linear_projection,
)
from .config import MaskModelConfig, check_levels, check_ranges
from .mask_model import Blocks, MaskModel


@dataclass(frozen=True)
class V1Config(MaskModelConfig):
    """The defaults are the published checkpoint: 205.9 M parameters.

    Attributes:
        widths: channels of each level.
        heads: attention heads.
        expansion: hidden width of the feed-forward over the level's bins.
    """

    widths: tuple[int, ...] = (8, 16, 32, 48, 64, 80)
    heads: int = 8
    expansion: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, widths=(1, 4096), heads=(1, 1024), expansion=(1, 1024))
        check_levels(self.widths, self.signal.features)


class V1TransformerEncoder(nn.Module):
    """A pre-norm transformer encoder block of one map: attention, then feed-forward.

    Args:
        channels: input channels, turned into one map by a 1×1 convolution.
        features: frequency bins of the level; the other sizes are those of ``config``.
    """

    def __init__(self, channels: int, features: int, config: V1Config):
        super().__init__()
        self.embed = nn.Conv2d(channels, 1, 1)
        self.norm1 = FrameNorm(features)
        self.attn = MultichannelMultiheadAttention(1, features, config.heads, linear_projection)
        self.norm2 = FrameNorm(features)
        self.feed_forward = LinearFeedForward(1, features, features * config.expansion)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, features, time) → (batch, 1, features, time)."""
        h = self.embed(x)
        h = h + self.dropout(self.attn(self.norm1(h))[0])
        return h + self.dropout(self.feed_forward(self.norm2(h)))


class V1TransformerDecoder(nn.Module):
    """A pre-norm transformer decoder block of one map: self-attention, attention to the encoder's, feed-forward.

    The published weights were trained with one norm before both attentions.

    Arguments as for :class:`V1TransformerEncoder`.
    """

    def __init__(self, channels: int, features: int, config: V1Config):
        super().__init__()
        self.embed = nn.Conv2d(channels, 1, 1)
        self.norm1 = FrameNorm(features)
        self.attn1 = MultichannelMultiheadAttention(1, features, config.heads, linear_projection)
        self.attn2 = MultichannelMultiheadAttention(1, features, config.heads, linear_projection)
        self.norm2 = FrameNorm(features)
        self.feed_forward = LinearFeedForward(1, features, features * config.expansion)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """x (batch, channels, features, time), memory (batch, 1, features, time) → (batch, 1, features, time)."""
        h = self.embed(x)
        h = h + self.dropout(self.attn1(self.norm1(h))[0])
        h = h + self.dropout(self.attn2(self.norm1(h), memory=memory)[0])
        return h + self.dropout(self.feed_forward(self.norm2(h)))


class Level(nn.Module):
    """A level of the U-Net: encoder and transformer on the way down, decoder and transformer on the way up.

    The map of a transformer is appended to its input. The deepest level has no decoder.
    """

    def __init__(self, number: int, config: V1Config):
        super().__init__()

        def norm(channels: int, features: int) -> nn.Module:
            return FrameNorm(features)

        width, features = config.widths[number], config.signal.features >> number
        if number == 0:
            self.encoder = FrameEncoder(config.signal.inputs + 1, width, features, norm=norm, halve=False)
        else:
            self.encoder = FrameEncoder(config.widths[number - 1] + 1, width, 2 * features, norm=norm)
        self.encoder_transformer = V1TransformerEncoder(width, features, config)
        if number + 1 < len(config.widths):
            self.decoder = FrameDecoder(config.widths[number + 1] + 1, width + 1, width, features, norm=norm)
            self.decoder_transformer = V1TransformerDecoder(width, features, config)


class V1(MaskModel):
    """The family V1; shapes as for :class:`MaskModel`."""

    config: V1Config

    def __init__(self, config: V1Config):
        super().__init__(config)
        self.input_transformer = V1TransformerEncoder(config.signal.inputs, config.signal.features, config)
        self.levels: Blocks[Level] = Blocks(Level(number, config) for number in range(len(config.widths)))
        self.out = nn.Conv2d(config.widths[0] + 1, config.signal.channels, 1, bias=False)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """(batch, inputs, n_fft / 2, time) → the logits of the mask, (batch, channels, n_fft / 2, time)."""
        self.check_shape(magnitudes)
        x = torch.cat((magnitudes, self.input_transformer(magnitudes)), dim=1)
        skips: list[Tensor] = []
        memories: list[Tensor] = []
        *upper, deepest = self.levels
        for level in upper:
            x = level.encoder(x)
            h = level.encoder_transformer(x)
            x = torch.cat((x, h), dim=1)
            skips.append(x)
            memories.append(h)
        x = deepest.encoder(x)
        x = torch.cat((x, deepest.encoder_transformer(x)), dim=1)
        for level in reversed(upper):
            x = level.decoder(x, skips.pop())
            x = torch.cat((x, level.decoder_transformer(x, memories.pop())), dim=1)
        return self.out(x)
