"""A discriminator of frames with and without voice, built like the encoder of AsymUNetMCT."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..layers import BandSplit, ConvolutionalTransformerEncoder, ResidualScores
from .asym_unet_mct import EncoderLevel, LevelSizes, Memory
from .config import SignalConfig
from .mask_model import Blocks, MaskModel


@dataclass(frozen=True)
class DiscriminatorConfig(LevelSizes):
    """Attributes as in :class:`AsymUNetMCTConfig`. Each position of the deepest level is one band of the output."""

    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    attention_maps: int | tuple[int, ...] = (0, 0, 1, 1, 1)
    heads: int = 4
    expansion: int | float = 2.0
    latent_layers: int = 1
    latent_expansion: int = 2
    bands: tuple[tuple[int, int], ...] = ()
    band_channels: int = 32
    compression: float = 1.0
    dropout: float = 0.1


class FrameDiscriminator(nn.Module):
    """Estimates for every frame and band whether the candidate never contained voice, given the mixture.

    After the conditional patch discriminator of pix2pix (Isola et al. 2017, section 3.2.2). A patch is one frame of one
    band here, because it is known for every frame whether voice was mixed into it.

    Args:
        config: sizes of the network.
        signal: signal of the generator.

    Raises:
        ModelError: sizes are out of range or do not fit the signal.
    """

    def __init__(self, config: DiscriminatorConfig, signal: SignalConfig):
        super().__init__()
        config.check(signal.features)
        self.config = config
        positions = config.positions(signal.features)
        channels = 2 * signal.channels
        self.split: nn.Module = nn.Identity()
        if config.bands:
            self.split = BandSplit(channels, config.band_channels, config.bands)
            channels = config.band_channels
        self.levels: Blocks[EncoderLevel] = Blocks(
            EncoderLevel(number, config, channels, positions) for number in range(len(config.widths))
        )
        self.latent: Blocks[ConvolutionalTransformerEncoder] = Blocks(
            ConvolutionalTransformerEncoder(
                config.widths[-1], config.heads, config.latent_expansion, config.dropout, restart_residual=False
            )
            for _ in range(config.latent_layers)
        )
        self.out = nn.Conv2d(config.widths[-1], 1, 1)

    def forward(self, mixture: Tensor, candidate: Tensor) -> Tensor:
        """Two magnitudes (batch, channels, n_fft / 2, time) → (batch, bands, time)."""
        # The gradient of the compression is infinite at zero.
        x = self.split(self.config.compress(torch.cat((candidate.clamp_min(1e-6), mixture), dim=1)))
        memory: Memory | None = None
        for level in self.levels:
            x, memory = level.encode(x, memory)
        scores: ResidualScores | None = None
        for layer in self.latent:
            x, scores = layer(x, scores)
        return self.out(x)[:, 0]

    def copy_encoder(self, model: MaskModel) -> int:
        """Copies matching weights from the encoder of a trained AsymUNetMCT and returns their number.

        Weights for the mixture are not copied, because a separator has no such second input.

        Raises:
            ModelError: no weights match.
        """
        own, theirs = self.state_dict(), model.state_dict()
        common = {
            name: value
            for name, value in theirs.items()
            if name in own and name.startswith(("levels.", "latent."))
            and own[name].shape == value.shape
        }  # fmt: skip
        if not common:
            raise ModelError("the discriminator has no weights in common with that model: give it the same widths")
        self.load_state_dict(common, strict=False)
        return sum(value.numel() for value in common.values())
