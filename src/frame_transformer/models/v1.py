"""V1 ("thin"): a six-level asymmetric U-Net with a one-map transformer after every level."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import DecoderBlock, EncoderBlock, FrameDecoder, FrameNorm, ResBlock
from .config import MaskModelConfig, check_levels, check_ranges
from .mask_model import MaskModel


@dataclass(frozen=True)
class V1Config(MaskModelConfig):
    """The defaults are the published checkpoint: 205.9 M parameters.

    Attributes:
        widths: channels of each level.
        heads: attention heads. expansion: hidden width of the feed-forward over the level's bins.
    """

    widths: tuple[int, ...] = (8, 16, 32, 48, 64, 80)
    heads: int = 8
    expansion: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, widths=(1, 4096), heads=(1, 1024), expansion=(1, 1024))
        check_levels(self.widths, self.signal.features)


class V1(MaskModel):
    """See :class:`MaskModel` for the shapes."""

    config: V1Config

    def __init__(self, config: V1Config):
        super().__init__(config)
        features = config.signal.features
        widths = config.widths

        def arguments(width: int, bins: int) -> tuple[Any, ...]:
            return width, 1, bins, config.heads, config.expansion, "linear", config.dropout

        self.input_transformer = EncoderBlock(*arguments(config.signal.channels, features))
        self.encoders = nn.ModuleList()
        self.encoder_transformers = nn.ModuleList()
        self.decoders = nn.ModuleList()
        self.decoder_transformers = nn.ModuleList()
        width = config.signal.channels + 1
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
        self.out = nn.Conv2d(width, config.signal.channels, 1, bias=False)

    def forward(self, magnitudes: Tensor) -> Tensor:
        self.check_shape(magnitudes)
        x = magnitudes
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
