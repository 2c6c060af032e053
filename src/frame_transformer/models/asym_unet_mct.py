"""AsymUNetMCT: an asymmetric U-Net with multichannel transformers at every level and a convolutional one at the bottom.

Frequency is halved from level to level while time keeps its length, so a frame stays a frame and the
transformers of all
levels attend over the same frames and can add up their scores.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..layers import (
    BandMerge,
    BandSplit,
    ConvolutionalEmbedding,
    ConvolutionalTransformerEncoder,
    FrameDecoder,
    FrameTransformerDecoder,
    FrameTransformerEncoder,
    MultichannelLayerNorm,
    ResBlock,
    ResidualScores,
)
from .config import MaskModelConfig, check_levels, check_ranges
from .mask_model import MaskModel


@dataclass(frozen=True)
class AsymUNetMCTConfig(MaskModelConfig):
    """The defaults are the published configuration.

    Attributes:
        widths: channels of each level, the latent level last; their number is the number of levels.
        attention_maps: maps of each level's transformers above the latent level, 0 for none; one number serves
        all levels.
        decoder_attention: whether decoders have transformers as encoders do; the gates on their scores take most of the
            time of all attention.
        heads: attention heads per map and in the latent.
        expansion: hidden width of the feed-forward: an int is that many features, a float that multiple of the
        level's bins.
        latent_layers: transformer layers at the latent level; latent_expansion: factor of their feed-forward.
        bands: (bins, bins per patch) of each band, from low to high frequency, or none. Patches become the positions
            that the first level sees (:class:`BandSplit`): wide layers on few positions cost less time than narrow ones
            on all bins, and most of what tells voices apart lies low. band_channels: channels of a position.
        positional_embedding: append a :class:`ConvolutionalEmbedding` map to the input.
        restart_latent_residual: see :class:`ConvolutionalTransformerEncoder`.
    """

    widths: tuple[int, ...] = (8, 16, 32, 48, 64, 80, 96, 112, 128)
    attention_maps: int | tuple[int, ...] = 4
    decoder_attention: bool = True
    heads: int = 8
    expansion: int | float = 10_240
    latent_layers: int = 4
    latent_expansion: int = 4
    bands: tuple[tuple[int, int], ...] = ()
    band_channels: int = 32
    positional_embedding: bool = True
    restart_latent_residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, widths=(1, 4096), attention_maps=(0, 256), heads=(1, 1024), expansion=(1e-3, 1 << 16))
        check_ranges(self, latent_layers=(0, 256), latent_expansion=(1, 1024), band_channels=(1, 4096))
        if any(patch < 1 or bins < patch or bins % patch for bins, patch in self.bands):
            raise ModelError(f"bands must be cut into patches without a remainder, got {self.bands}")
        if self.bands and sum(bins for bins, _ in self.bands) != self.signal.features:
            raise ModelError(f"bands must add up to {self.signal.features} bins, got {self.bands}")
        check_levels(self.widths, self.positions)
        if len(self.maps) != len(self.widths) - 1:
            raise ModelError(f"attention_maps needs {len(self.widths) - 1} numbers, got {self.attention_maps}")

    @property
    def positions(self) -> int:
        """Positions along frequency at the first level."""
        return sum(bins // patch for bins, patch in self.bands) or self.signal.features

    @property
    def maps(self) -> tuple[int, ...]:
        """Attention maps of each level above the latent."""
        if isinstance(self.attention_maps, int):
            return (self.attention_maps,) * (len(self.widths) - 1)
        return self.attention_maps

    def hidden(self, features: int) -> int:
        """Hidden width of the feed-forward at a level of so many bins."""
        return self.expansion if isinstance(self.expansion, int) else round(self.expansion * features)


class AsymUNetMCT(MaskModel):
    """See :class:`MaskModel` for the shapes."""

    config: AsymUNetMCTConfig

    def __init__(self, config: AsymUNetMCTConfig):
        super().__init__(config)
        widths, maps = config.widths, config.maps
        features = config.positions
        self.positional_embedding = (
            ConvolutionalEmbedding(config.signal.channels, config.signal.features)
            if config.positional_embedding
            else None
        )
        self.encoders = nn.ModuleList()
        self.encoder_transformers = nn.ModuleList()
        self.decoders = nn.ModuleList()
        self.decoder_transformers = nn.ModuleList()

        width = config.signal.channels + config.positional_embedding
        self.split: nn.Module = nn.Identity()
        if config.bands:
            self.split = BandSplit(width, config.band_channels, config.bands)
            width = config.band_channels
        for level, (out, level_maps) in enumerate(zip(widths, (*maps, 0), strict=True)):
            above = features >> max(level - 1, 0)
            stride = (2, 1) if level else (1, 1)
            self.encoders.append(ResBlock(width, out, above, MultichannelLayerNorm(width, above), stride=stride))
            bins = features >> level
            if level < len(maps):
                self.encoder_transformers.append(
                    FrameTransformerEncoder(out, level_maps, bins, config.heads, config.hidden(bins), config.dropout)
                    if level_maps
                    else nn.Identity()
                )
            width = out + level_maps

        self.latent = nn.ModuleList(
            ConvolutionalTransformerEncoder(
                width, config.heads, config.latent_expansion, config.dropout, config.restart_latent_residual
            )
            for _ in range(config.latent_layers)
        )

        for level in reversed(range(len(maps))):
            out, level_maps, bins = widths[level], maps[level], features >> level
            width += out + level_maps
            self.decoders.append(FrameDecoder(ResBlock(width, out, bins, MultichannelLayerNorm(width, bins))))
            # Scores of two levels add up only where both have the same maps.
            continues = level + 1 < len(maps) and maps[level + 1] == level_maps
            self.decoder_transformers.append(
                FrameTransformerDecoder(
                    out, level_maps, bins, config.heads, config.hidden(bins), config.dropout, gated_entry=continues
                )
                if level_maps and config.decoder_attention
                else nn.Identity()
            )
            width = out + level_maps * config.decoder_attention
        self.out = (
            BandMerge(width, config.signal.channels, config.bands)
            if config.bands
            else nn.Conv2d(width, config.signal.channels, 1)
        )

    def forward(self, magnitudes: Tensor) -> Tensor:
        self.check_shape(magnitudes)
        x = magnitudes
        if self.positional_embedding is not None:
            x = torch.cat((x, self.positional_embedding(x)), dim=1)
        x = self.split(x)

        skips: list[Tensor] = []
        memories: list[tuple[Tensor, ResidualScores] | None] = []
        scores: ResidualScores | None = None
        previous_maps = 0
        for encoder, transformer, maps in zip(self.encoders, self.encoder_transformers, self.config.maps, strict=False):
            x = encoder(x)
            if maps:
                h, scores = transformer(x, scores if maps == previous_maps else None)
                memories.append((h, scores))
                x = torch.cat((x, h), dim=1)
            else:
                memories.append(None)
            previous_maps = maps
            skips.append(x)

        x = self.encoders[-1](x)
        scores = None
        for layer in self.latent:
            x, scores = layer(x, scores)

        self_scores: ResidualScores | None = None
        cross_scores: ResidualScores | None = None
        previous_maps = 0
        for decoder, transformer, maps in zip(
            self.decoders, self.decoder_transformers, reversed(self.config.maps), strict=True
        ):
            x = decoder(x, skips.pop())
            memory = memories.pop()
            if memory is not None and self.config.decoder_attention:
                if maps != previous_maps:
                    self_scores = cross_scores = None
                h, self_scores, cross_scores = transformer(x, *memory, self_scores, cross_scores)
                x = torch.cat((x, h), dim=1)
            previous_maps = maps
        return self.out(x)
