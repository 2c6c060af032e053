"""Building blocks of the networks, independent of models, audio files and training."""

from .attention import (
    ConvolutionalMultiheadAttention,
    MultichannelMultiheadAttention,
    ScoreGate,
    conv_linear_projection,
    linear_conv_projection,
    linear_projection,
)
from .bands import BandMerge, BandSplit
from .convolution import FrameConv, FrameDecoder, FrameEncoder, HeadConv3d, ResBlock
from .embedding import ConvolutionalEmbedding, apply_rotary_embedding
from .evolved import ConvolutionalTransformerEncoder, FrameTransformerDecoder, FrameTransformerEncoder
from .feed_forward import ConvolutionalFeedForward, LinearFeedForward
from .linear import MultichannelLinear, SquaredReLU
from .norm import ChannelNorm, FrameNorm, MultichannelLayerNorm
from .scores import ResidualScores
from .transformer import TransformerDecoder, TransformerEncoder

__all__ = [
    "BandMerge",
    "BandSplit",
    "ChannelNorm",
    "ConvolutionalEmbedding",
    "ConvolutionalFeedForward",
    "ConvolutionalMultiheadAttention",
    "ConvolutionalTransformerEncoder",
    "FrameConv",
    "FrameDecoder",
    "FrameEncoder",
    "FrameNorm",
    "FrameTransformerDecoder",
    "FrameTransformerEncoder",
    "HeadConv3d",
    "LinearFeedForward",
    "MultichannelLayerNorm",
    "MultichannelLinear",
    "MultichannelMultiheadAttention",
    "ResBlock",
    "ResidualScores",
    "ScoreGate",
    "SquaredReLU",
    "TransformerDecoder",
    "TransformerEncoder",
    "apply_rotary_embedding",
    "conv_linear_projection",
    "linear_conv_projection",
    "linear_projection",
]
