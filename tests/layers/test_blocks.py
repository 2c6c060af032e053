"""Each transformer block against its plain formulation: outputs, running scores and gradients, at odd sizes.

Both compute angles of positions in float32, hence the tolerances.
"""

import pytest
import torch
from torch import Tensor

from frame_transformer.layers import (
    ConvolutionalEmbedding,
    ConvolutionalTransformerEncoder,
    FrameTransformerDecoder,
    FrameTransformerEncoder,
    ResidualScores,
    TransformerDecoder,
    TransformerEncoder,
)
from frame_transformer.models import V1Config
from frame_transformer.models.v1 import V1TransformerDecoder, V1TransformerEncoder
from reference import blocks as plain


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
@pytest.mark.parametrize("channels", [5, None])
def test_transformer_encoder(channels, frames):
    block = randomised(TransformerEncoder(channels, 3, 12, 2, 2, 0.1))
    x = maps(1, channels or 3, 12, frames)
    running, dense = scores(3, 2, frames)
    h, after = block(x, running)
    assert_same((h, after.dense()), plain.encoder_block(weights(block), x, 2, plain.norm_per_channel, dense), (x,))


def test_transformer_decoder():
    block, frames = randomised(TransformerDecoder(5, 3, 12, 2, 2, 0.1)), 7
    w, x, memory = weights(block), maps(1, 5, 12, frames), maps(1, 3, 12, frames)
    (running, dense), (memory_scores, memory_dense) = scores(3, 2, frames), scores(3, 2, frames)
    h, after = block(x, running, memory, memory_scores)
    norm = plain.norm_per_channel
    z = plain.embed(w, x)
    attended, expected_scores = plain.attention(w.attn1, norm(w.norm1, z), 2, previous=dense)
    z = z + attended
    z = z + plain.attention(w.attn2, norm(w.norm2, z), 2, memory, memory_dense)[0]
    z = z + plain.feed_forward(w.feed_forward, norm(w.norm3, z))
    assert_same((h, after.dense()), (z, expected_scores), (x, memory))


V1_SIZES = V1Config(heads=2, expansion=2)


@pytest.mark.parametrize("frames", [1, 7])
def test_v1_encoder(frames):
    block = randomised(V1TransformerEncoder(5, 12, V1_SIZES))
    x = maps(1, 5, 12, frames)
    assert_same((block(x),), plain.encoder_block(weights(block), x, 2, plain.norm_shared)[:1], (x,))


def test_v1_decoder():
    block = randomised(V1TransformerDecoder(5, 12, V1_SIZES))
    w, x, memory, norm = weights(block), maps(1, 5, 12, 7), maps(1, 1, 12, 7), plain.norm_shared
    # The published V1 was trained with the first norm on both attentions and the second on the feed-forward.
    z = plain.embed(w, x)
    z = z + plain.attention(w.attn1, norm(w.norm1, z), 2)[0]
    z = z + plain.attention(w.attn2, norm(w.norm1, z), 2, memory)[0]
    z = z + plain.feed_forward(w.feed_forward, norm(w.norm2, z))
    assert_same((block(x, memory),), (z,), (x, memory))


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
