"""V1 ("thin"): a six-level asymmetric U-Net with a one-map transformer after every level."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import DecoderBlock, EncoderBlock, FrameDecoder, FrameNorm, ResBlock
from .config import SpectrogramConfig

LADDER = (1, 2, 4, 6, 8, 10)


@dataclass(frozen=True)
class V1Config(SpectrogramConfig):
    """The defaults are the published checkpoint: 205.9 M parameters.

    Attributes:
        channels: channels of the first level; the others have 2, 4, 6, 8, 10 times as many.
        heads: attention heads. expansion: hidden width of the feed-forward over the level's bins.
    """

    channels: int = 8
    heads: int = 8
    expansion: int = 24


class V1(nn.Module):
    """Magnitudes over the song's maximum in, logits of the instrumental mask out.

    Shapes: (batch, in_channels, n_fft / 2, time) → the same.
    """

    def __init__(self, config: V1Config | None = None):
        super().__init__()
        self.config = config = config or V1Config()
        features = config.features
        widths = [config.channels * m for m in LADDER]

        def arguments(width: int, bins: int) -> tuple[Any, ...]:
            return width, 1, bins, config.heads, config.expansion, "linear", config.dropout

        self.input_transformer = EncoderBlock(*arguments(config.in_channels, features))
        self.encoders = nn.ModuleList()
        self.encoder_transformers = nn.ModuleList()
        self.decoders = nn.ModuleList()
        self.decoder_transformers = nn.ModuleList()
        width = config.in_channels + 1
        for level, out in enumerate(widths):
            above = features >> max(level - 1, 0)
            self.encoders.append(ResBlock(width, out, above, FrameNorm(above), stride=(2, 1) if level else (1, 1)))
            self.encoder_transformers.append(EncoderBlock(*arguments(out, features >> level)))
            width = out + 1
        for level in reversed(range(len(widths) - 1)):
            bins, out = features >> level, widths[level]
            self.decoders.append(FrameDecoder(ResBlock(width + out + 1, out, bins, FrameNorm(bins))))
            self.decoder_transformers.append(DecoderBlock(*arguments(out, bins)))
            width = out + 1
        self.out = nn.Conv2d(width, config.in_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.input_transformer(x)
        x = torch.cat((x, h), dim=1)
        skips: list[Tensor] = []
        memories: list[Tensor] = []
        for encoder, transformer in zip(self.encoders, self.encoder_transformers, strict=True):
            x = encoder(x)
            h, _ = transformer(x)
            x = torch.cat((x, h), dim=1)
            skips.append(x)
            memories.append(h)
        del skips[-1], memories[-1]
        for decoder, transformer in zip(self.decoders, self.decoder_transformers, strict=True):
            x = decoder(x, skips.pop())
            h, _ = transformer(x, memories.pop())
            x = torch.cat((x, h), dim=1)
        return self.out(x)
