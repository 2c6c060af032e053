"""The transformer blocks of V2b and V3: multichannel attention with residual scores, convolutional feed-forward.

Dropout is applied to each residual branch.
"""

from torch import Tensor, nn

from .attention import MultichannelMultiheadAttention, conv_linear_projection
from .feed_forward import ConvolutionalFeedForward
from .norm import MultichannelLayerNorm
from .scores import ResidualScores


class TransformerEncoder(nn.Module):
    """A pre-norm encoder block: attention, then feed-forward.

    Args:
        channels: input channels, turned into ``maps`` by a 1×1 convolution; None if the input already is the maps.
        maps: maps of attention. features: frequency bins. heads: attention heads per map.
        expansion: factor of the feed-forward's hidden maps.
    """

    def __init__(self, channels: int | None, maps: int, features: int, heads: int, expansion: int, dropout: float):
        super().__init__()
        self.embed = nn.Identity() if channels is None else nn.Conv2d(channels, maps, 1)
        self.norm1 = MultichannelLayerNorm(maps, features)
        self.attn = MultichannelMultiheadAttention(maps, features, heads, conv_linear_projection)
        self.norm2 = MultichannelLayerNorm(maps, features)
        self.feed_forward = ConvolutionalFeedForward(maps, expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, residual: ResidualScores | None = None) -> tuple[Tensor, ResidualScores]:
        """(batch, channels, features, time) → the maps (batch, maps, features, time) and the running scores."""
        h = self.embed(x)
        attended, scores = self.attn(self.norm1(h), residual=residual)
        h = h + self.dropout(attended)
        return h + self.dropout(self.feed_forward(self.norm2(h))), scores


class TransformerDecoder(nn.Module):
    """A pre-norm decoder block: self-attention, attention to the encoder's maps, feed-forward.

    Arguments as for :class:`TransformerEncoder`.
    """

    def __init__(self, channels: int, maps: int, features: int, heads: int, expansion: int, dropout: float):
        super().__init__()
        self.embed = nn.Conv2d(channels, maps, 1)
        self.norm1 = MultichannelLayerNorm(maps, features)
        self.attn1 = MultichannelMultiheadAttention(maps, features, heads, conv_linear_projection)
        self.norm2 = MultichannelLayerNorm(maps, features)
        self.attn2 = MultichannelMultiheadAttention(maps, features, heads, conv_linear_projection)
        self.norm3 = MultichannelLayerNorm(maps, features)
        self.feed_forward = ConvolutionalFeedForward(maps, expansion)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, residual: ResidualScores, memory: Tensor, memory_scores: ResidualScores
    ) -> tuple[Tensor, ResidualScores]:
        """Decodes x (batch, channels, features, time) with the encoder's maps and scores of the same level.

        Args:
            residual: running scores of self-attention.
            memory: the encoder's maps (batch, maps, features, time).
            memory_scores: its running scores, to which those of attention to it are added.

        Returns:
            the maps (batch, maps, features, time) and the running scores of self-attention.
        """
        h = self.embed(x)
        attended, scores = self.attn1(self.norm1(h), residual=residual)
        h = h + self.dropout(attended)
        attended, _ = self.attn2(self.norm2(h), memory=memory, residual=memory_scores)
        h = h + self.dropout(attended)
        return h + self.dropout(self.feed_forward(self.norm3(h))), scores
