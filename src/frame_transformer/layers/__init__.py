"""Building blocks, each usable alone; they know nothing of models, audio files or training."""

from .attention import ConvolutionalMultiheadAttention, MultichannelMultiheadAttention, ResidualScores, ScoreGate
from .bands import BandMerge, BandSplit
from .convolution import FrameConv, FrameDecoder, ResBlock
from .embedding import ConvolutionalEmbedding, apply_rotary_embedding
from .linear import MultichannelLinear, SquaredReLU
from .norm import ChannelNorm, FrameNorm, MultichannelLayerNorm
from .transformer import (
    ConvolutionalTransformerEncoder,
    DecoderBlock,
    EncoderBlock,
    FrameTransformerDecoder,
    FrameTransformerEncoder,
)

__all__ = [
    "BandMerge",
    "BandSplit",
    "ChannelNorm",
    "ConvolutionalEmbedding",
    "ConvolutionalMultiheadAttention",
    "ConvolutionalTransformerEncoder",
    "DecoderBlock",
    "EncoderBlock",
    "FrameConv",
    "FrameDecoder",
    "FrameNorm",
    "FrameTransformerDecoder",
    "FrameTransformerEncoder",
    "MultichannelLayerNorm",
    "MultichannelLinear",
    "MultichannelMultiheadAttention",
    "ResBlock",
    "ResidualScores",
    "ScoreGate",
    "SquaredReLU",
    "apply_rotary_embedding",
]
