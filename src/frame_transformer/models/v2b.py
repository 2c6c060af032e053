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
from .config import SpectrogramConfig
from .v1 import LADDER

# The two deepest levels have so few bins that a linear layer over all of them is cheaper than a convolution.
LINEAR_LEVELS = (4, 5)


@dataclass(frozen=True)
class V2bConfig(SpectrogramConfig):
    """The defaults are the published checkpoint: 255.8 M parameters.

    Attributes:
        channels: channels of the first level; the others have 2, 4, 6, 8, 10 times as many.
        attention_maps: maps of every transformer. heads: attention heads per map.
        expansion: factor of the feed-forward's hidden maps.
    """

    channels: int = 8
    attention_maps: int = 12
    heads: int = 8
    expansion: int = 6


class V2b(nn.Module):
    """Magnitudes over the song's maximum in, logits of the instrumental mask out.

    Shapes: (batch, in_channels, n_fft / 2, time) → the same.
    """

    def __init__(self, config: V2bConfig | None = None):
        super().__init__()
        self.config = config = config or V2bConfig()
        features, maps = config.features, config.attention_maps
        widths = [config.channels * m for m in LADDER]

        def arguments(width: int, bins: int) -> tuple[Any, ...]:
            return width, maps, bins, config.heads, config.expansion, "convolution", config.dropout

        def body(width: int, out: int, bins: int, level: int, stride: tuple[int, int] = (1, 1)) -> ResBlock:
            norm = MultichannelLayerNorm(width, bins)
            return ResBlock(width, out, bins, norm, stride=stride, linear=level in LINEAR_LEVELS)

        self.positional_embedding = ConvolutionalEmbedding(config.in_channels, features)
        self.input_transformer = EncoderBlock(*arguments(config.in_channels + 1, features))
        self.encoders = nn.ModuleList()
        self.encoder_transformers = nn.ModuleList()
        self.decoders = nn.ModuleList()
        self.decoder_transformers = nn.ModuleList()
        width = config.in_channels + 1 + maps
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
        self.out = nn.Conv2d(width, config.in_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
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
