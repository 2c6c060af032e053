"""V2b: V1's wiring with several attention maps, residual scores and a positional embedding."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import (
    ConvolutionalEmbedding,
    DecoderBlock,
    EncoderBlock,
    FrameDecoder,
    MultichannelLayerNorm,
    ResBlock,
    ResidualScores,
)
from .config import MaskModelConfig, check_levels, check_ranges
from .mask_model import MaskModel

# The two deepest levels have so few bins that a linear layer over all of them is cheaper than a convolution.
LINEAR_LEVELS = (4, 5)


@dataclass(frozen=True)
class V2bConfig(MaskModelConfig):
    """The defaults are the published checkpoint: 255.8 M parameters.

    Attributes:
        widths: channels of each level.
        attention_maps: maps of every transformer. heads: attention heads per map.
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


class V2b(MaskModel):
    """See :class:`MaskModel` for the shapes."""

    config: V2bConfig

    def __init__(self, config: V2bConfig):
        super().__init__(config)
        features, maps = config.signal.features, config.attention_maps
        widths = config.widths

        def arguments(width: int, bins: int) -> tuple[Any, ...]:
            return width, maps, bins, config.heads, config.expansion, "convolution", config.dropout

        def body(width: int, out: int, bins: int, level: int, stride: tuple[int, int] = (1, 1)) -> ResBlock:
            norm = MultichannelLayerNorm(width, bins)
            return ResBlock(width, out, bins, norm, stride=stride, linear=level in LINEAR_LEVELS)

        self.positional_embedding = ConvolutionalEmbedding(config.signal.channels, features)
        self.input_transformer = EncoderBlock(*arguments(config.signal.channels + 1, features))
        self.encoders = nn.ModuleList()
        self.encoder_transformers = nn.ModuleList()
        self.decoders = nn.ModuleList()
        self.decoder_transformers = nn.ModuleList()
        width = config.signal.channels + 1 + maps
        for level, out in enumerate(widths):
            above = features >> max(level - 1, 0)
            self.encoders.append(body(width, out, above, level, (2, 1) if level else (1, 1)))
            self.encoder_transformers.append(EncoderBlock(*arguments(out, features >> level)))
            width = out + maps
        for level in reversed(range(len(widths) - 1)):
            bins, out = features >> level, widths[level]
            self.decoders.append(FrameDecoder(body(width + out + maps, out, bins, level)))
            self.decoder_transformers.append(DecoderBlock(*arguments(out, bins)))
            width = out + maps
        self.out = nn.Conv2d(width, config.signal.channels, 1, bias=False)

    def forward(self, magnitudes: Tensor) -> Tensor:
        self.check_shape(magnitudes)
        x = magnitudes
        x = torch.cat((x, self.positional_embedding(x)), dim=1)
        h, scores = self.input_transformer(x)
        x = torch.cat((x, h), dim=1)
        skips: list[Tensor] = []
        memories: list[tuple[Tensor, ResidualScores]] = []
        for encoder, transformer in zip(self.encoders, self.encoder_transformers, strict=True):
            x = encoder(x)
            h, scores = transformer(x, scores)
            x = torch.cat((x, h), dim=1)
            skips.append(x)
            memories.append((h, scores))
        del skips[-1], memories[-1]
        for decoder, transformer in zip(self.decoders, self.decoder_transformers, strict=True):
            x = decoder(x, skips.pop())
            memory, skip_scores = memories.pop()
            h, scores = transformer(x, memory, scores, skip_scores)
            x = torch.cat((x, h), dim=1)
        return self.out(x)
