"""V3: a stack of multichannel transformer layers at full frequency resolution, without down-sampling."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import ConvolutionalEmbedding, MultichannelLayerNorm, ResidualScores, SquaredReLU, TransformerEncoder
from .config import MaskModelConfig, check_ranges
from .mask_model import Blocks, MaskModel


@dataclass(frozen=True)
class V3Config(MaskModelConfig):
    """The defaults are the configuration of the research code: 403.3 M parameters. Its weights were never published.

    Attributes:
        channels: maps of every layer.
        heads: attention heads per map.
        expansion: factor of the feed-forward's hidden maps.
        layers: transformer layers.
    """

    channels: int = 8
    heads: int = 8
    expansion: int = 4
    layers: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, channels=(1, 256), heads=(1, 1024), expansion=(1, 1024), layers=(0, 64))


class V3(MaskModel):
    """The family V3; shapes as for :class:`MaskModel`."""

    config: V3Config

    def __init__(self, config: V3Config):
        super().__init__(config)
        width, channels, features = config.signal.inputs + 1, config.channels, config.signal.features
        self.positional_embedding = ConvolutionalEmbedding(config.signal.inputs, features, sinusoidal=False)
        self.norm = MultichannelLayerNorm(width, features)
        self.conv1 = nn.Conv2d(width, 2 * channels, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.identity = nn.Conv2d(width, channels, 1)
        self.activation = SquaredReLU()
        self.transformer: Blocks[TransformerEncoder] = Blocks(
            TransformerEncoder(None, channels, features, config.heads, config.expansion, config.dropout)
            for _ in range(config.layers)
        )
        self.out = nn.Conv2d(channels, config.signal.channels, 1)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """(batch, inputs, n_fft / 2, time) → the logits of the mask, (batch, channels, n_fft / 2, time)."""
        self.check_shape(magnitudes)
        x = torch.cat((magnitudes, self.positional_embedding(magnitudes)), dim=1)
        h = self.identity(x) + self.conv2(self.activation(self.conv1(self.norm(x))))
        scores = ResidualScores(in_place=True)
        for layer in self.transformer:
            h, scores = layer(h, scores)
        return self.out(h)
