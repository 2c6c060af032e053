"""V3: no down-sampling, a stack of multichannel transformer layers at full frequency resolution."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers import ConvolutionalEmbedding, EncoderBlock, MultichannelLayerNorm, ResidualScores, SquaredReLU
from .config import SpectrogramConfig


@dataclass(frozen=True)
class V3Config(SpectrogramConfig):
    """The defaults are the configuration of the research code: 403.3 M parameters, weights never published.

    Attributes:
        channels: maps of every layer. heads: attention heads per map.
        expansion: factor of the feed-forward's hidden maps. layers: transformer layers.
    """

    channels: int = 8
    heads: int = 8
    expansion: int = 4
    layers: int = 12


class V3(nn.Module):
    """Magnitudes over the song's maximum in, logits of the instrumental mask out.

    Shapes: (batch, in_channels, n_fft / 2, time) → the same.
    """

    def __init__(self, config: V3Config | None = None):
        super().__init__()
        self.config = config = config or V3Config()
        width, channels, features = config.in_channels + 1, config.channels, config.features
        self.positional_embedding = ConvolutionalEmbedding(config.in_channels, features, sinusoidal=False)
        self.norm = MultichannelLayerNorm(width, features)
        self.conv1 = nn.Conv2d(width, 2 * channels, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.identity = nn.Conv2d(width, channels, 1)
        self.activation = SquaredReLU()
        self.transformer = nn.ModuleList(
            EncoderBlock(None, channels, features, config.heads, config.expansion, "convolution", config.dropout)
            for _ in range(config.layers)
        )
        self.out = nn.Conv2d(channels, config.in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((x, self.positional_embedding(x)), dim=1)
        h = self.identity(x) + self.conv2(self.activation(self.conv1(self.norm(x))))
        scores = ResidualScores(in_place=True)
        for layer in self.transformer:
            h, scores = layer(h, scores)
        return self.out(h)
