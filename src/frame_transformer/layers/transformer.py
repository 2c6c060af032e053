"""Transformer blocks over spectrogram frames, composed from the attentions, linear layers and convolutions.

``dropout`` is applied to each residual branch. Every block works on (batch, channels, frequency, time).
"""

from typing import Literal

from torch import Tensor, nn

from .attention import ConvolutionalMultiheadAttention, MultichannelMultiheadAttention, ResidualScores, ScoreGate
from .convolution import FrameConv
from .linear import MultichannelLinear, SquaredReLU
from .norm import ChannelNorm, FrameNorm, MultichannelLayerNorm
from .parts import in_parts


def _embed(channels: int, maps: int) -> nn.Module:
    return nn.Conv2d(channels, maps, 1) if channels != maps else nn.Identity()


class LinearFeedForward(nn.Sequential):
    """features → hidden → features along frequency for each map, squared ReLU between."""

    def __init__(self, maps: int, features: int, hidden: int):
        super().__init__(
            MultichannelLinear(maps, maps, features, hidden),
            SquaredReLU(),
            MultichannelLinear(maps, maps, hidden, features),
        )
        self.width = maps * hidden

    def forward(self, x: Tensor) -> Tensor:
        return in_parts(super().forward, x, len(x) * self.width)


class ConvolutionalFeedForward(nn.Sequential):
    """maps → maps · expansion → maps with 3×3 convolutions, squared ReLU between."""

    def __init__(self, maps: int, expansion: int):
        super().__init__(
            nn.Conv2d(maps, maps * expansion, 3, padding=1),
            SquaredReLU(),
            nn.Conv2d(maps * expansion, maps, 3, padding=1),
        )
        self.width = maps * expansion

    def forward(self, x: Tensor) -> Tensor:
        return in_parts(super().forward, x, len(x) * self.width * x.shape[2], halo=2)


class EncoderBlock(nn.Module):
    """The pre-norm transformer encoder block of V1, V2b and V3: attention, then feed-forward.

    Args:
        channels: input channels, turned into ``maps`` by a 1×1 convolution; None where the input is the maps
        themselves.
        features: frequency bins. heads: attention heads per map.
        feed_forward: ``"linear"`` (V1; hidden width features · expansion) or ``"convolution"`` (V2b, V3).
    """

    def __init__(
        self,
        channels: int | None,
        maps: int,
        features: int,
        heads: int,
        expansion: int,
        feed_forward: Literal["linear", "convolution"],
        dropout: float,
    ):
        super().__init__()
        linear = feed_forward == "linear"
        self.embed = nn.Identity() if channels is None else nn.Conv2d(channels, maps, 1)
        self.norm1 = _frame_norm(linear, maps, features)
        self.attn = MultichannelMultiheadAttention(maps, heads, features, "linear" if linear else "conv_linear")
        self.norm2 = _frame_norm(linear, maps, features)
        self.feed_forward = _feed_forward(linear, maps, features, expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: ResidualScores | None = None) -> tuple[Tensor, ResidualScores]:
        """(batch, channels, features, time) → the maps (batch, maps, features, time) and the running scores."""
        h = self.embed(x)
        attended, scores = self.attn(self.norm1(h), residual=residual)
        h = h + self.dropout(attended)
        return h + self.dropout(self.feed_forward(self.norm2(h))), scores


class DecoderBlock(nn.Module):
    """The transformer decoder block of V1 and V2b: self-attention, attention to the encoder's maps, feed-forward.

    Arguments as for :class:`EncoderBlock`. With the linear feed-forward the norms are tied as in the published
    V1 weights:
    ``norm1`` serves both attentions and ``norm3`` is carried along unused.
    """

    def __init__(
        self,
        channels: int,
        maps: int,
        features: int,
        heads: int,
        expansion: int,
        feed_forward: Literal["linear", "convolution"],
        dropout: float,
    ):
        super().__init__()
        self.tied_norms = linear = feed_forward == "linear"
        projection: Literal["linear", "conv_linear"] = "linear" if linear else "conv_linear"
        self.embed = nn.Conv2d(channels, maps, 1)
        self.norm1 = _frame_norm(linear, maps, features)
        self.attn1 = MultichannelMultiheadAttention(maps, heads, features, projection)
        self.norm2 = _frame_norm(linear, maps, features)
        self.attn2 = MultichannelMultiheadAttention(maps, heads, features, projection)
        self.norm3 = _frame_norm(linear, maps, features)
        self.feed_forward = _feed_forward(linear, maps, features, expansion)
        self.dropout = nn.Dropout(dropout)
        if linear:
            self.norm3.requires_grad_(False)

    def forward(
        self,
        x: Tensor,
        skip: Tensor,
        residual: ResidualScores | None = None,
        skip_scores: ResidualScores | None = None,
    ) -> tuple[Tensor, ResidualScores]:
        """Decodes x (batch, channels, features, time) with skip (batch, maps, features, time).

        Returns:
            the maps (batch, maps, features, time) and the running self-attention scores.
        """
        memory_norm, output_norm = (self.norm1, self.norm2) if self.tied_norms else (self.norm2, self.norm3)
        h = self.embed(x)
        attended, scores = self.attn1(self.norm1(h), residual=residual)
        h = h + self.dropout(attended)
        attended, _ = self.attn2(memory_norm(h), memory=skip, residual=skip_scores)
        h = h + self.dropout(attended)
        return h + self.dropout(self.feed_forward(output_norm(h))), scores


def _frame_norm(shared: bool, maps: int, features: int) -> nn.Module:
    return FrameNorm(features) if shared else MultichannelLayerNorm(maps, features)


def _feed_forward(linear: bool, maps: int, features: int, expansion: int) -> nn.Module:
    if linear:
        return LinearFeedForward(maps, features, features * expansion)
    return ConvolutionalFeedForward(maps, expansion)


class FrameTransformerEncoder(nn.Module):
    """The encoder block of AsymUNetMCT: an Evolved Transformer encoder on frames.

    A gated linear unit, a two-branch convolution, attention and feed-forward (So et al. 2019, "The Evolved
    Transformer",
    figure 3), with squared ReLU (Primer), residual scores (RealFormer) and rotary positions (RoFormer).

    Args:
        channels: input channels, reduced to ``maps`` by a 1×1 convolution where they differ.
        features: frequency bins. heads: attention heads per map. hidden: width of the feed-forward.
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
        self.attn = MultichannelMultiheadAttention(maps, heads, features, "linear_conv")
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
    """The decoder block of AsymUNetMCT: an Evolved Transformer decoder whose skip attention is gated by score.

    Arguments as for :class:`FrameTransformerEncoder`; ``gated_entry`` says whether running skip scores come
    from a deeper
    decoder and are blended with this level's (false in the deepest decoder).
    """

    def __init__(
        self, channels: int, maps: int, features: int, heads: int, hidden: int, dropout: float, gated_entry: bool
    ):
        super().__init__()

        def attention() -> MultichannelMultiheadAttention:
            return MultichannelMultiheadAttention(maps, heads, features, "linear_conv")

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
            x: (batch, channels, features, time). skip: (batch, maps, features, time).
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
        restart_residual: add the attention to the block's input instead of to the running value, as the
        original research
            code does; false is the form of the paper.
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
