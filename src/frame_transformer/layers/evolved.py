"""The blocks of AsymUNetMCT: Evolved Transformers (So et al. 2019) on frames, and on positions at the latent level.

Dropout is applied to each residual branch. In the ``forward`` methods, h is the hidden state and z a normalised input
that two branches share.
"""

from torch import Tensor, nn

from .attention import (
    ConvolutionalMultiheadAttention,
    MultichannelMultiheadAttention,
    ScoreGate,
    linear_conv_projection,
)
from .convolution import FrameConv
from .feed_forward import ConvolutionalFeedForward, LinearFeedForward
from .linear import MultichannelLinear, SquaredReLU
from .norm import ChannelNorm, MultichannelLayerNorm
from .scores import ResidualScores


def _embed(channels: int, maps: int) -> nn.Module:
    return nn.Conv2d(channels, maps, 1) if channels != maps else nn.Identity()


class FrameTransformerEncoder(nn.Module):
    """The encoder block of AsymUNetMCT: an Evolved Transformer encoder on frames.

    A gated linear unit, a two-branch convolution, attention and feed-forward (So et al. 2019, "The Evolved
    Transformer", figure 3), with squared ReLU (Primer), residual scores (RealFormer) and rotary positions (RoFormer).

    Args:
        channels: input channels, reduced to ``maps`` by a 1×1 convolution where they differ.
        maps: maps of attention. features: frequency bins. heads: attention heads per map.
        hidden: width of the feed-forward.
    """

    def __init__(self, channels: int, maps: int, features: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.embed = _embed(channels, maps)
        self.norm1 = MultichannelLayerNorm(maps, features)
        self.glu = nn.Sequential(MultichannelLinear(maps, maps, features, 2 * features), nn.GLU(dim=2))
        self.norm2 = MultichannelLayerNorm(maps, features)
        self.conv1a = MultichannelLinear(maps, maps, features, features)
        self.conv1b = FrameConv(maps, features, 3)
        self.norm3 = MultichannelLayerNorm(maps, features)
        self.conv2 = FrameConv(maps, features, 9)
        self.norm4 = MultichannelLayerNorm(maps, features)
        self.attn = MultichannelMultiheadAttention(maps, features, heads, linear_conv_projection)
        self.norm5 = MultichannelLayerNorm(maps, features)
        self.feed_forward = LinearFeedForward(maps, features, hidden)
        self.activation = SquaredReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: ResidualScores | None = None) -> tuple[Tensor, ResidualScores]:
        """(batch, channels, features, time) → the maps (batch, maps, features, time) and the running scores."""
        h = self.embed(x)
        h = h + self.dropout(self.glu(self.norm1(h)))
        z = self.norm2(h)
        h = h + self.dropout(self.activation(self.conv1a(z)) + self.activation(self.conv1b(z)))
        h = h + self.dropout(self.conv2(self.norm3(h)))
        attended, scores = self.attn(self.norm4(h), residual=residual)
        h = h + self.dropout(attended)
        return h + self.dropout(self.feed_forward(self.norm5(h))), scores


class FrameTransformerDecoder(nn.Module):
    """The decoder block of AsymUNetMCT: an Evolved Transformer decoder with gated skip scores.

    Arguments as for :class:`FrameTransformerEncoder`, and:

    Args:
        gated_entry: blend the skip scores of the deeper decoder with those of this level; false for the deepest
            decoder.
    """

    def __init__(
        self, channels: int, maps: int, features: int, heads: int, hidden: int, dropout: float, gated_entry: bool
    ):
        super().__init__()

        def attention() -> MultichannelMultiheadAttention:
            return MultichannelMultiheadAttention(maps, features, heads, linear_conv_projection)

        self.embed = _embed(channels, maps)
        self.norm1 = MultichannelLayerNorm(maps, features)
        self.attn1a = attention()
        self.gate1 = ScoreGate(maps) if gated_entry else None
        self.attn1b = attention()
        self.norm2 = MultichannelLayerNorm(maps, features)
        self.conv1a = FrameConv(maps, features, 11)
        self.conv1b = FrameConv(maps, features, 7)
        self.norm3 = MultichannelLayerNorm(maps, features)
        self.conv2 = FrameConv(maps, features, 7)
        self.norm4 = MultichannelLayerNorm(maps, features)
        self.attn2 = attention()
        self.gate2 = ScoreGate(maps)
        self.norm5 = MultichannelLayerNorm(maps, features)
        self.attn3 = attention()
        self.norm6 = MultichannelLayerNorm(maps, features)
        self.feed_forward = LinearFeedForward(maps, features, hidden)
        self.activation = SquaredReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        skip: Tensor,
        skip_scores: ResidualScores,
        self_scores: ResidualScores | None = None,
        cross_scores: ResidualScores | None = None,
    ) -> tuple[Tensor, ResidualScores, ResidualScores]:
        """Decodes x with the maps and scores of the encoder block of the same level.

        Args:
            x: (batch, channels, features, time).
            skip: the encoder's maps (batch, maps, features, time). skip_scores: its scores.
            self_scores, cross_scores: running scores of the deeper decoder's self- and skip attention.

        Returns:
            the maps (batch, maps, features, time) and both running scores.
        """
        h = self.embed(x)
        z = self.norm1(h)
        attended, self_scores = self.attn1a(z, residual=self_scores)
        if self.gate1 is not None and cross_scores is not None:
            cross_scores = self.gate1.blend(cross_scores, skip_scores)
        else:
            cross_scores = skip_scores
        attended_skip, cross_scores = self.attn1b(z, memory=skip, residual=cross_scores)
        h = h + self.dropout(attended) + self.dropout(attended_skip)
        z = self.norm2(h)
        z = self.activation(self.conv1a(z)) + self.conv1b(z)
        h = h + self.dropout(self.conv2(self.norm3(z)))
        attended, self_scores = self.attn2(self.norm4(h), residual=self_scores)
        h = h + self.dropout(attended)
        cross_scores = self.gate2.blend(cross_scores, skip_scores)
        attended, cross_scores = self.attn3(self.norm5(h), memory=skip, residual=cross_scores)
        h = h + self.dropout(attended)
        return h + self.dropout(self.feed_forward(self.norm6(h))), self_scores, cross_scores


class ConvolutionalTransformerEncoder(nn.Module):
    """The latent block of AsymUNetMCT: an Evolved Transformer encoder on channels, with convolutions for projections.

    Args:
        channels: width of a position. heads: attention heads. expansion: factor of the feed-forward's hidden width.
        restart_residual: add the attention to the input of the block instead of to the hidden state, as in the original
            research code; false is the form of the paper.
    """

    def __init__(self, channels: int, heads: int, expansion: int, dropout: float, restart_residual: bool):
        super().__init__()

        def separable(kernel_size: int) -> nn.Sequential:
            depthwise = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
            return nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1))

        self.restart_residual = restart_residual
        self.norm1 = ChannelNorm(channels)
        self.glu = nn.Sequential(nn.Conv2d(channels, 2 * channels, 1), nn.GLU(dim=1))
        self.norm2 = ChannelNorm(channels)
        self.conv1a = nn.Conv2d(channels, channels, 1)
        self.conv1b = separable(3)
        self.norm3 = ChannelNorm(channels)
        self.conv2 = separable(9)
        self.norm4 = ChannelNorm(channels)
        self.attn = ConvolutionalMultiheadAttention(channels, heads)
        self.norm5 = ChannelNorm(channels)
        self.feed_forward = ConvolutionalFeedForward(channels, expansion)
        self.activation = SquaredReLU()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: ResidualScores | None = None) -> tuple[Tensor, ResidualScores]:
        """(batch, channels, frequency, time) → the same, and the running scores."""
        h = x + self.dropout(self.glu(self.norm1(x)))
        z = self.norm2(h)
        h = h + self.dropout(self.activation(self.conv1a(z)) + self.activation(self.conv1b(z)))
        h = h + self.dropout(self.conv2(self.norm3(h)))
        attended, scores = self.attn(self.norm4(h), residual)
        h = (x if self.restart_residual else h) + self.dropout(attended)
        return h + self.dropout(self.feed_forward(self.norm5(h))), scores
