"""AsymUNetMCT: an asymmetric U-Net with multichannel transformers at every level and a convolutional one at the bottom.

Frequency is halved from level to level, and time keeps its length. So the transformers of all levels attend over the
same frames, and the scores of one level can be added to those of the next.
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
    FrameEncoder,
    FrameTransformerDecoder,
    FrameTransformerEncoder,
    ResidualScores,
)
from .config import MaskModelConfig, check_levels, check_ranges
from .mask_model import Blocks, MaskModel


class LevelSizes:
    """The sizes of levels in AsymUNetMCT and the discriminator; see :class:`AsymUNetMCTConfig`."""

    widths: tuple[int, ...]
    attention_maps: int | tuple[int, ...]
    heads: int
    expansion: int | float
    latent_layers: int
    latent_expansion: int
    bands: tuple[tuple[int, int], ...]
    band_channels: int
    compression: float
    dropout: float

    @property
    def maps(self) -> tuple[int, ...]:
        """Attention maps of each level; the latent one has none."""
        if isinstance(self.attention_maps, int):
            return (*[self.attention_maps] * (len(self.widths) - 1), 0)
        return (*self.attention_maps, 0)

    def hidden(self, features: int) -> int:
        """Hidden width of the feed-forward at a level with this number of bins."""
        return self.expansion if isinstance(self.expansion, int) else max(1, round(self.expansion * features))

    def positions(self, features: int) -> int:
        """Positions along frequency at the first level, for a spectrogram with this number of bins."""
        return sum(bins // patch for bins, patch in self.bands) or features

    def compress(self, magnitudes: Tensor) -> Tensor:
        """Power-law compression of the input; any shape → the same."""
        return magnitudes if self.compression == 1 else magnitudes.pow(self.compression)

    def check(self, features: int) -> None:
        """Checks the sizes for a spectrogram with this number of bins.

        Raises:
            ModelError: sizes are out of range or do not fit.
        """
        check_ranges(self, widths=(1, 4096), attention_maps=(0, 256), heads=(1, 1024), expansion=(1e-3, 1 << 16))
        check_ranges(self, latent_layers=(0, 64), latent_expansion=(1, 1024), band_channels=(1, 4096), dropout=(0, 1))
        check_ranges(self, compression=(0.01, 1))
        whole = all(patch >= 1 and bins >= patch and bins % patch == 0 for bins, patch in self.bands)
        if not whole or sum(bins for bins, _ in self.bands) not in (0, features) or len(self.bands) > 64:
            raise ModelError(
                f"bands must be cut into patches without a remainder, add up to {features} bins, and be at most 64, "
                f"got {str(self.bands)[:80]}"
            )
        check_levels(self.widths, self.positions(features))
        if len(self.maps) != len(self.widths):
            raise ModelError(
                f"attention_maps needs {len(self.widths) - 1} numbers, got {str(self.attention_maps)[:80]}"
            )


@dataclass(frozen=True)
class AsymUNetMCTConfig(MaskModelConfig, LevelSizes):
    """The defaults are the published configuration.

    Attributes:
        widths: channels of each level, the latent level last; their number is the number of levels.
        attention_maps: maps of the transformers at each level above the latent level, 0 for none; a single
            number applies to all levels.
        decoder_attention: whether decoders have transformers, too. The gates on their scores take most of the time of
            all attention.
        heads: attention heads per map, and at the latent level.
        expansion: hidden width of the feed-forward, as a number of features (int) or a multiple of the level's bins
            (float).
        latent_layers: transformer layers at the latent level.
        latent_expansion: factor of the hidden width of their feed-forward.
        bands: (bins, bins per patch) of each band, from low to high frequency, or none. The patches are the positions
            of the first level (:class:`BandSplit`). Wide layers on few positions take less time than narrow ones on all
            bins, and voices are distinguished mostly by low frequencies.
        band_channels: channels of these positions.
        compression: exponent of the power-law compression of the input, 1 for none. The squared ReLUs double the range
            of levels in dB, so without compression, a network with fine patches hears the loudest partials only.
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
    compression: float = 1.0
    positional_embedding: bool = True
    restart_latent_residual: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.signal.features)


# The maps of an encoder's transformer, (batch, maps, features, time), and its running scores.
Memory = tuple[Tensor, ResidualScores]


class EncoderLevel(nn.Module):
    """A level on the way down: an encoder, and a transformer whose maps are appended.

    Args:
        number: 0 for the topmost level, which leaves frequency unchanged.
        sizes: sizes of all levels.
        in_channels, positions: channels and positions of the topmost level's input.
    """

    def __init__(self, number: int, sizes: LevelSizes, in_channels: int, positions: int):
        super().__init__()
        width, maps, bins = sizes.widths[number], sizes.maps[number], positions >> number
        if number == 0:
            self.encoder = FrameEncoder(in_channels, width, bins, halve=False)
        else:
            self.encoder = FrameEncoder(sizes.widths[number - 1] + sizes.maps[number - 1], width, 2 * bins)
        # Scores of two levels can be added only if both have the same number of maps.
        self.continues_above = number > 0 and maps == sizes.maps[number - 1]
        self.encoder_transformer: FrameTransformerEncoder | None = None
        if maps:
            self.encoder_transformer = FrameTransformerEncoder(
                width, maps, bins, sizes.heads, sizes.hidden(bins), sizes.dropout
            )

    def encode(self, x: Tensor, above: Memory | None) -> tuple[Tensor, Memory | None]:
        """Encodes the output of the level above. Maps and scores are None at levels without a transformer.

        Args:
            x: (batch, channels, frequency, time) from the level above.
            above: maps and scores of the level above.

        Returns:
            (batch, width + maps, features, time) for the level below, and this level's maps and scores.
        """
        x = self.encoder(x)
        if self.encoder_transformer is None:
            return x, None
        memory = self.encoder_transformer(x, above[1] if above is not None and self.continues_above else None)
        return torch.cat((x, memory[0]), dim=1), memory


class Level(EncoderLevel):
    """A level of the U-Net: encoder and transformer on the way down, decoder and transformer on the way up.

    The deepest level, which is followed by the latent layers, has no decoder.
    """

    def __init__(self, number: int, config: AsymUNetMCTConfig, in_channels: int, positions: int):
        super().__init__(number, config, in_channels, positions)
        if number + 1 == len(config.widths):
            return
        width, maps, bins = config.widths[number], config.maps[number], positions >> number
        below = config.widths[number + 1] + config.maps[number + 1] * config.decoder_attention
        self.decoder = FrameDecoder(below, width + maps, width, bins)
        self.continues_below = maps == config.maps[number + 1]
        self.decoder_transformer: FrameTransformerDecoder | None = None
        if maps and config.decoder_attention:
            self.decoder_transformer = FrameTransformerDecoder(
                width, maps, bins, config.heads, config.hidden(bins), config.dropout, gated_entry=self.continues_below
            )


class AsymUNetMCT(MaskModel):
    """The family AsymUNetMCT; shapes as for :class:`MaskModel`."""

    config: AsymUNetMCTConfig

    def __init__(self, config: AsymUNetMCTConfig):
        super().__init__(config)
        channels, inputs, features = config.signal.channels, config.signal.inputs, config.signal.features
        self.positional_embedding = ConvolutionalEmbedding(inputs, features) if config.positional_embedding else None
        in_channels = inputs + config.positional_embedding
        out_channels = config.widths[0] + config.maps[0] * config.decoder_attention
        self.split: nn.Module
        self.out: nn.Module
        if config.bands:
            self.split = BandSplit(in_channels, config.band_channels, config.bands)
            self.out = BandMerge(out_channels, channels, config.bands)
            in_channels = config.band_channels
        else:
            self.split = nn.Identity()
            self.out = nn.Conv2d(out_channels, channels, 1)
        positions = config.positions(features)
        self.levels: Blocks[Level] = Blocks(
            Level(number, config, in_channels, positions) for number in range(len(config.widths))
        )
        self.latent: Blocks[ConvolutionalTransformerEncoder] = Blocks(
            ConvolutionalTransformerEncoder(
                config.widths[-1], config.heads, config.latent_expansion, config.dropout, config.restart_latent_residual
            )
            for _ in range(config.latent_layers)
        )

    def forward(self, magnitudes: Tensor) -> Tensor:
        """(batch, inputs, n_fft / 2, time) → the logits of the mask, (batch, channels, n_fft / 2, time)."""
        self.check_shape(magnitudes)
        x = self.config.compress(magnitudes)
        if self.positional_embedding is not None:
            x = torch.cat((x, self.positional_embedding(x)), dim=1)
        x = self.split(x)

        *upper, deepest = self.levels
        skips: list[Tensor] = []
        memories: list[Memory | None] = []
        memory: Memory | None = None
        for level in upper:
            x, memory = level.encode(x, memory)
            skips.append(x)
            memories.append(memory)

        x, _ = deepest.encode(x, None)
        scores: ResidualScores | None = None
        for layer in self.latent:
            x, scores = layer(x, scores)

        self_scores: ResidualScores | None = None
        cross_scores: ResidualScores | None = None
        for level in reversed(upper):
            x = level.decoder(x, skips.pop())
            memory = memories.pop()
            if level.decoder_transformer is not None and memory is not None:
                if not level.continues_below:
                    self_scores = cross_scores = None
                h, self_scores, cross_scores = level.decoder_transformer(x, *memory, self_scores, cross_scores)
                x = torch.cat((x, h), dim=1)
        return self.out(x)
