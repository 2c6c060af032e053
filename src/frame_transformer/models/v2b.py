"""V2b: V1's wiring with several attention maps, residual scores and a positional embedding."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import (
    ConvolutionalEmbedding,
    FrameDecoder,
    FrameEncoder,
    ResidualScores,
    TransformerDecoder,
    TransformerEncoder,
)
from .config import MaskModelConfig, check_levels, check_ranges
from .mask_model import Blocks, MaskModel


@dataclass(frozen=True)
class V2bConfig(MaskModelConfig):
    """The defaults are the published checkpoint: 255.8 M parameters.

    Attributes:
        widths: channels of each level.
        attention_maps: maps of every transformer.
        heads: attention heads per map.
        expansion: factor of the feed-forward's hidden maps.
    """

    widths: tuple[int, ...] = (8, 16, 32, 48, 64, 80)
    attention_maps: int = 12
    heads: int = 8
    expansion: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, widths=(1, 4096), attention_maps=(1, 256), heads=(1, 1024), expansion=(1, 1024))
        check_levels(self.widths, self.signal.features)

    @property
    def input_channels(self) -> int:
        """Channels of the magnitudes and the positional embedding."""
        return self.signal.inputs + 1


class Level(nn.Module):
    """A level of the U-Net: encoder and transformer on the way down, decoder and transformer on the way up.

    The maps of a transformer are appended to its input. The deepest level has no decoder. The blocks of the two deepest
    levels are linear, because they have few bins and a layer over all of them is cheaper than a convolution.
    """

    def __init__(self, number: int, config: V2bConfig):
        super().__init__()
        maps, heads, expansion, dropout = config.attention_maps, config.heads, config.expansion, config.dropout
        width, features = config.widths[number], config.signal.features >> number
        linear = number + 2 >= len(config.widths)
        if number == 0:
            self.encoder = FrameEncoder(config.input_channels + maps, width, features, linear=linear, halve=False)
        else:
            self.encoder = FrameEncoder(config.widths[number - 1] + maps, width, 2 * features, linear=linear)
        self.encoder_transformer = TransformerEncoder(width, maps, features, heads, expansion, dropout)
        if number + 1 < len(config.widths):
            below = config.widths[number + 1] + maps
            self.decoder = FrameDecoder(below, width + maps, width, features, linear=linear)
            self.decoder_transformer = TransformerDecoder(width, maps, features, heads, expansion, dropout)


class V2b(MaskModel):
    """The family V2b; shapes as for :class:`MaskModel`."""

    config: V2bConfig

    def __init__(self, config: V2bConfig):
        super().__init__(config)
        signal, maps = config.signal, config.attention_maps
        self.positional_embedding = ConvolutionalEmbedding(signal.inputs, signal.features)
        self.input_transformer = TransformerEncoder(
            config.input_channels, maps, signal.features, config.heads, config.expansion, config.dropout
        )
        self.levels: Blocks[Level] = Blocks(Level(number, config) for number in range(len(config.widths)))
        self.out = nn.Conv2d(config.widths[0] + maps, signal.channels, 1, bias=False)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """(batch, inputs, n_fft / 2, time) → the logits of the mask, (batch, channels, n_fft / 2, time)."""
        self.check_shape(magnitudes)
        x = torch.cat((magnitudes, self.positional_embedding(magnitudes)), dim=1)
        h, scores = self.input_transformer(x)
        x = torch.cat((x, h), dim=1)
        skips: list[Tensor] = []
        memories: list[tuple[Tensor, ResidualScores]] = []
        *upper, deepest = self.levels
        for level in upper:
            x = level.encoder(x)
            h, scores = level.encoder_transformer(x, scores)
            x = torch.cat((x, h), dim=1)
            skips.append(x)
            memories.append((h, scores))
        x = deepest.encoder(x)
        h, scores = deepest.encoder_transformer(x, scores)
        x = torch.cat((x, h), dim=1)
        for level in reversed(upper):
            x = level.decoder(x, skips.pop())
            h, scores = level.decoder_transformer(x, scores, *memories.pop())
            x = torch.cat((x, h), dim=1)
        return self.out(x)
