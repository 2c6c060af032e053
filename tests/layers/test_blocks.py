"""Each transformer block against its plain formulation: outputs, running scores and gradients, at odd sizes.

Both compute angles of positions in float32, hence the tolerances.
"""

import pytest
import torch
from torch import Tensor

from frame_transformer.layers import (
    ConvolutionalEmbedding,
    ConvolutionalTransformerEncoder,
    DecoderBlock,
    EncoderBlock,
    FrameTransformerDecoder,
    FrameTransformerEncoder,
    ResidualScores,
)
from tests.reference import blocks as plain


def randomised(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim < 4:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return module.double().eval()


def weights(module):
    return plain.Weights(dict(module.named_parameters()))


def maps(*shape):
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def scores(count, heads, frames):
    """Running scores of an earlier layer, as products and as the tensor that they stand for."""
    queries, keys = (torch.randn(1, count, heads, 3, frames, dtype=torch.float64) for _ in range(2))
    return ResidualScores((queries, keys)), queries.transpose(-1, -2) @ keys


def assert_same(actual: tuple[Tensor, ...], expected: tuple[Tensor, ...], inputs: tuple[Tensor, ...]):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    cotangents = [torch.randn_like(x) for x in actual]
    gradients = [torch.autograd.grad(outputs, inputs, cotangents) for outputs in (actual, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("frames", [1, 7])
@pytest.mark.parametrize(
    ("kind", "count", "norm"), [("linear", 1, plain.norm_shared), ("convolution", 3, plain.norm_per_channel)]
)
def test_encoder_block(kind, count, norm, frames):
    block = randomised(EncoderBlock(5, count, 12, 2, 2, kind, 0.1))
    x = maps(1, 5, 12, frames)
    running, dense = scores(count, 2, frames)
    h, after = block(x, running)
    assert_same((h, after.dense()), plain.encoder_block(weights(block), x, 2, norm, dense), (x,))


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_decoder_block(kind):
    block, frames = randomised(DecoderBlock(5, 1, 12, 2, 2, kind, 0.1)), 7
    norm = plain.norm_shared if kind == "linear" else plain.norm_per_channel
    w, x, skip = weights(block), maps(1, 5, 12, frames), maps(1, 1, 12, frames)
    (running, dense), (skip_scores, skip_dense) = scores(1, 2, frames), scores(1, 2, frames)
    h, after = block(x, skip, running, skip_scores)

    # The published V1 was trained with the first norm on both attentions and the second on the feed-forward.
    memory_norm, output_norm = (w.norm1, w.norm2) if kind == "linear" else (w.norm2, w.norm3)
    z = plain.embed(w, x)
    attended, expected_scores = plain.attention(w.attn1, norm(w.norm1, z), 2, previous=dense)
    z = z + attended
    z = z + plain.attention(w.attn2, norm(memory_norm, z), 2, skip, skip_dense)[0]
    z = z + plain.feed_forward(w.feed_forward, norm(output_norm, z))
    assert_same((h, after.dense()), (z, expected_scores), (x, skip))


@pytest.mark.parametrize(("channels", "frames"), [(5, 9), (3, 1)])
def test_frame_transformer_encoder(channels, frames):
    block = randomised(FrameTransformerEncoder(channels, 3, 12, 2, 20, 0.1))
    x = maps(1, channels, 12, frames)
    running, dense = scores(3, 2, frames)
    h, after = block(x, running)
    assert_same((h, after.dense()), plain.evolved_encoder(weights(block), x, 2, dense), (x,))


@pytest.mark.parametrize("gated_entry", [True, False])
def test_frame_transformer_decoder(gated_entry):
    block, frames = randomised(FrameTransformerDecoder(5, 3, 12, 2, 20, 0.1, gated_entry)), 7
    x, skip = maps(1, 5, 12, frames), maps(1, 3, 12, frames)
    (skip_scores, skip_dense), (own, own_dense), (cross, cross_dense) = (scores(3, 2, frames) for _ in range(3))
    h, own, cross = block(x, skip, skip_scores, own, cross if gated_entry else None)
    expected = plain.evolved_decoder(
        weights(block), x, 2, skip, skip_dense, own_dense, cross_dense if gated_entry else None
    )
    assert_same((h, own.dense(), cross.dense()), expected, (x, skip))


@pytest.mark.parametrize("restart", [True, False])
def test_convolutional_transformer_encoder(restart):
    block = randomised(ConvolutionalTransformerEncoder(8, 2, 2, 0.1, restart))
    x = maps(1, 8, 3, 5)
    running, dense = scores(1, 2, 15)
    h, after = block(x, running)
    expected, expected_scores = plain.latent_layer(weights(block), x, 2, restart, dense[:, 0])
    assert_same((h, after.dense()[:, 0]), (expected, expected_scores), (x,))


@pytest.mark.parametrize("sinusoidal", [True, False])
@pytest.mark.parametrize("frames", [1, 37])
def test_convolutional_embedding(sinusoidal, frames):
    block = randomised(ConvolutionalEmbedding(2, 256, sinusoidal))
    x = maps(1, 2, 256, frames)
    expected = plain.positional_embedding(weights(block), x)
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-7)


def test_dropout_acts_in_training_only():
    block = FrameTransformerEncoder(3, 3, 12, 2, 20, 0.5)
    x = torch.randn(1, 3, 12, 7)
    assert not torch.equal(block(x)[0], block(x)[0])
    block.eval()
    assert torch.equal(block(x)[0], block(x)[0])


def test_blocks_name_the_shape_they_want():
    block = FrameTransformerEncoder(3, 3, 12, 2, 20, 0.1)
    with pytest.raises(ValueError, match=r"expected \(batch, 3, 12, time\), got \(1, 3, 11, 7\)"):
        block(torch.randn(1, 3, 11, 7))
