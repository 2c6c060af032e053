"""A discriminator of frames, in the manner of AsymUNetMCT's encoder: which frames still carry voice?"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..layers import (
    ConvolutionalTransformerEncoder,
    FrameTransformerEncoder,
    MultichannelLayerNorm,
    ResBlock,
    ResidualScores,
)
from .config import SignalConfig, check_levels, check_ranges


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The meaning of the attributes is that of :class:`AsymUNetMCTConfig`; the last level's bins are the bands."""

    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    attention_maps: tuple[int, ...] = (0, 0, 1, 1, 1)
    heads: int = 4
    expansion: float = 2.0
    latent_layers: int = 1
    latent_expansion: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, widths=(1, 4096), attention_maps=(0, 256), heads=(1, 1024), expansion=(1e-3, 1024))
        check_ranges(self, latent_layers=(0, 256), latent_expansion=(1, 1024), dropout=(0, 1))
        if len(self.attention_maps) != len(self.widths) - 1:
            raise ModelError(f"attention_maps needs {len(self.widths) - 1} numbers, got {self.attention_maps}")


class FrameDiscriminator(nn.Module):
    """Logits that a candidate's frames never held voice, for every frame and band; conditional on the mixture.

    After the conditional discriminator on patches of pix2pix (Isola et al. 2017, section 3.2.2); a patch here is one
    frame of one band, because it is known of every frame whether voice was mixed into it.

    Shapes: two of (batch, in_channels, n_fft / 2, time) → (batch, bands, time).
    """

    def __init__(self, config: DiscriminatorConfig, signal: SignalConfig):
        super().__init__()
        check_levels(config.widths, signal.features)
        self.config = config
        levels = len(config.widths) - 1
        self.encoders = nn.ModuleList()
        self.encoder_transformers = nn.ModuleList()
        width = 2 * signal.channels
        for level, (out, maps) in enumerate(zip(config.widths, (*config.attention_maps, 0), strict=True)):
            above, bins = signal.features >> max(level - 1, 0), signal.features >> level
            stride = (2, 1) if level else (1, 1)
            self.encoders.append(ResBlock(width, out, above, MultichannelLayerNorm(width, above), stride=stride))
            if level < levels:
                hidden = round(config.expansion * bins)
                self.encoder_transformers.append(
                    FrameTransformerEncoder(out, maps, bins, config.heads, hidden, config.dropout)
                    if maps
                    else nn.Identity()
                )
            width = out + maps
        self.latent = nn.ModuleList(
            ConvolutionalTransformerEncoder(width, config.heads, config.latent_expansion, config.dropout, False)
            for _ in range(config.latent_layers)
        )
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, mixture: Tensor, candidate: Tensor) -> Tensor:
        x = torch.cat((candidate, mixture), dim=1)
        scores: ResidualScores | None = None
        previous_maps = 0
        for level, maps in enumerate(self.config.attention_maps):
            x = self.encoders[level](x)
            if maps:
                h, scores = self.encoder_transformers[level](x, scores if maps == previous_maps else None)
                x = torch.cat((x, h), dim=1)
            previous_maps = maps
        x = self.encoders[-1](x)
        scores = None
        for layer in self.latent:
            x, scores = layer(x, scores)
        return self.out(x)[:, 0]

    def copy_encoder(self, model: nn.Module) -> int:
        """Copies the weights that a trained AsymUNetMCT's encoder has in common, and returns how many.

        The first block's weights for the mixture, which a separator does not see beside its input, stay as they are.

        Raises:
            ModelError: they have nothing in common.
        """
        own, theirs = self.state_dict(), model.state_dict()
        common = {
            name: value
            for name, value in theirs.items()
            if name in own and name.startswith(("encoders.", "encoder_transformers.", "latent."))
            and own[name].shape == value.shape
        }  # fmt: skip
        if not common:
            raise ModelError("the discriminator has no weights in common with that model: give it the same widths")
        self.load_state_dict(common, strict=False)
        return sum(value.numel() for value in common.values())
