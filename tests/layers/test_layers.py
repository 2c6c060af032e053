"""Every block against an independent plain formulation."""

import math

import pytest
import torch
from torch.nn import functional

from frame_transformer.layers import (
    ChannelNorm,
    ConvolutionalEmbedding,
    ConvolutionalMultiheadAttention,
    FrameConv,
    FrameNorm,
    MultichannelLayerNorm,
    MultichannelLinear,
    MultichannelMultiheadAttention,
    ResBlock,
    ResidualScores,
    ScoreGate,
    SquaredReLU,
    apply_rotary_embedding,
    conv_linear_projection,
    linear_conv_projection,
    linear_projection,
    tiling,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randomize(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize(("batch", "channels", "out", "time"), [(1, 3, 3, 7), (2, 3, 5, 1), (3, 1, 1, 13)])
def test_multichannel_linear_is_a_linear_per_channel(batch, channels, out, time):
    layer = randomize(MultichannelLinear(channels, out, 6, 10))
    x = torch.randn(batch, channels, 6, time)
    rows = [functional.linear(x[:, c].transpose(1, 2), layer.weight_pw[c]).transpose(1, 2) for c in range(channels)]
    expected = torch.stack(rows, dim=1)
    if out != channels:
        expected = functional.conv2d(expected, layer.weight_dw[:, :, None, None])
    torch.testing.assert_close(layer(x), expected)


def test_multichannel_linear_names_the_shape_it_wants():
    with pytest.raises(ValueError, match=r"expected \(batch, 2, 8, time\), got \(1, 3, 8, 4\)"):
        MultichannelLinear(2, 2, 8, 8)(torch.zeros(1, 3, 8, 4))


def test_norms_are_layer_norm_along_their_axis():
    x = torch.randn(2, 3, 8, 5)
    multichannel = randomize(MultichannelLayerNorm(3, 8))
    expected = functional.layer_norm(x.transpose(2, 3), (8,), eps=1e-8).transpose(2, 3)
    expected = expected * multichannel.weight.transpose(1, 2) + multichannel.bias.transpose(1, 2)
    torch.testing.assert_close(multichannel(x), expected)
    frame = randomize(FrameNorm(8))
    expected = functional.layer_norm(x.transpose(2, 3), (8,), frame.weight, frame.bias).transpose(2, 3)
    torch.testing.assert_close(frame(x), expected)
    channel = randomize(ChannelNorm(3))
    expected = functional.layer_norm(x.movedim(1, 3), (3,), channel.weight, channel.bias).movedim(3, 1)
    torch.testing.assert_close(channel(x), expected)
    with pytest.raises(ValueError, match="expected"):
        multichannel(x[:, :2])


def test_frame_conv_is_depthwise_then_linear():
    layer = randomize(FrameConv(3, 8, 5))
    x = torch.randn(2, 3, 8, 9)
    convolved = torch.cat(
        [
            functional.conv2d(x[:, c : c + 1], layer.conv.weight[c : c + 1], layer.conv.bias[c : c + 1], padding=2)
            for c in range(3)
        ],
        dim=1,
    )
    expected = torch.einsum("cof,bcft->bcot", layer.linear.weight_pw, convolved)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_res_block(linear, stride):
    block = ResBlock(3, 4, 8, stride=stride, linear=linear)
    randomize(block.norm)
    x = torch.randn(2, 3, 8, 7, requires_grad=True)
    y = block(x)
    assert y.shape == (2, 4, 8 // stride[0], 7)
    expected = block.identity(x) + block.conv2(torch.relu(block.conv1(block.norm(x))) ** 2)
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_squared_relu():
    assert SquaredReLU()(torch.tensor([-2.0, 0.0, 3.0])).tolist() == [0, 0, 9]


@pytest.mark.parametrize("features", [1, 2, 5, 8])
def test_rotary_embedding_is_a_complex_rotation(features):
    x = torch.randn(2, features, 11)
    pairs = features // 2
    rotated = apply_rotary_embedding(x)
    for i in range(pairs):
        angle = torch.arange(11) * 10_000 ** (-2 * i / features)
        expected = torch.complex(x[:, 2 * i], x[:, 2 * i + 1]) * torch.polar(torch.ones(11), angle)
        torch.testing.assert_close(rotated[:, 2 * i], expected.real)
        torch.testing.assert_close(rotated[:, 2 * i + 1], expected.imag)
    torch.testing.assert_close(rotated[:, 2 * pairs :], x[:, 2 * pairs :])


def test_rotary_embedding_is_exact_at_long_windows():
    """With angles in float32 it is off by 2e-4 here."""
    rotated = apply_rotary_embedding(torch.ones(32, 4096)).double().unflatten(0, (16, 2))
    angles = 10_000 ** (-torch.arange(16, dtype=torch.float64) / 16)[:, None] * torch.arange(4096)
    expected = torch.stack((angles.cos() - angles.sin(), angles.cos() + angles.sin()), dim=1)
    torch.testing.assert_close(rotated, expected, rtol=0, atol=1e-6)


def sdpa(queries, keys, values, bias=None):
    """Plain attention on (…, width, time); queries are already scaled."""
    out = functional.scaled_dot_product_attention(
        queries.transpose(-1, -2), keys.transpose(-1, -2), values.transpose(-1, -2), attn_mask=bias, scale=1.0
    )
    return out.transpose(-1, -2)


@pytest.mark.parametrize("projection", [linear_projection, linear_conv_projection, conv_linear_projection])
@pytest.mark.parametrize("time", [1, 9])
def test_attention_with_residual_scores(projection, time):
    layer = randomize(MultichannelMultiheadAttention(2, 8, 2, projection))
    x, memory = torch.randn(3, 2, 8, time), torch.randn(3, 2, 8, time)
    _, first = layer(x)
    out, scores = layer(x, memory, first)
    split = [p(s).unflatten(2, (2, 4)) for p, s in ((layer.q_proj, x), (layer.k_proj, memory), (layer.v_proj, memory))]
    queries, keys = apply_rotary_embedding(split[0] / math.sqrt(8)), apply_rotary_embedding(split[1])
    expected = layer.o_proj(sdpa(queries, keys, split[2], first.dense()).flatten(2, 3))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scores.dense(), queries.transpose(-1, -2) @ keys + first.dense())


@torch.no_grad()
@pytest.mark.parametrize("in_place", [False, True])
def test_factored_tiled_and_folded_scores_agree(monkeypatch, in_place):
    queries, keys = torch.randn(3, 2, 3, 2, 4, 11), torch.randn(3, 2, 3, 2, 4, 11)
    values = torch.randn(2, 3, 2, 4, 11)

    def run():
        """Sums of three layers; none is folded, then the third, then the second and third."""
        scores = ResidualScores((queries[0], keys[0]), in_place=in_place)
        return scores.add(queries[1], keys[1]).add(queries[2], keys[2]).attend(values)

    plain = sum(queries[i].transpose(-1, -2) @ keys[i] for i in range(3))
    expected = (plain.softmax(-1) @ values.transpose(-1, -2)).transpose(-1, -2)
    torch.testing.assert_close(run(), expected)
    for elements in (2 * 11 * 11, 4 * 11):  # two heads at once, four queries of one head
        monkeypatch.setattr(tiling, "TILE_ELEMENTS", elements)
        torch.testing.assert_close(run(), expected)
    monkeypatch.setattr(tiling, "CHEAP_SUM_ELEMENTS", 0)
    for width in (8, 4):
        for name in ("SUM_WIDTH", "CHEAP_SUM_WIDTH"):
            monkeypatch.setattr(tiling, name, width)
        torch.testing.assert_close(run(), expected)


def test_convolutional_attention_is_attention_over_positions():
    layer = randomize(ConvolutionalMultiheadAttention(4, 2))
    x = torch.randn(2, 4, 3, 5)
    out, scores = layer(x)
    split = [p(x).reshape(2, 2, 2, 15) for p in (layer.q_proj, layer.k_proj, layer.v_proj)]
    expected = sdpa(apply_rotary_embedding(split[0] / 2), apply_rotary_embedding(split[1]), split[2])
    torch.testing.assert_close(out, layer.o_proj(expected.reshape(2, 4, 3, 5)), rtol=1e-4, atol=1e-5)
    assert scores.dense().shape == (2, 1, 2, 15, 15)


def test_score_gate_blends_between_its_inputs():
    gate = randomize(ScoreGate(2))
    running, skip = (ResidualScores(base=torch.randn(1, 2, 3, 5, 5)) for _ in range(2))
    blended = gate.blend(running, skip).dense()
    g = torch.sigmoid(gate[2](torch.relu(gate[0](torch.cat((running.dense(), skip.dense()), 1))) ** 2))
    torch.testing.assert_close(blended, g * running.dense() + (1 - g) * skip.dense())


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="8 features cannot be split into 3 heads"):
        MultichannelMultiheadAttention(1, 8, 3, linear_projection)


@pytest.mark.parametrize("time", [1, 33])
def test_convolutional_embedding_over_any_time(time):
    embedding = ConvolutionalEmbedding(2, 256)
    x = torch.randn(1, 2, 256, time, requires_grad=True)
    y = embedding(x)
    assert y.shape == (1, 1, 256, time)
    y.sum().backward()
    assert all(p.grad is not None for p in embedding.parameters())
    with pytest.raises(ValueError, match="at least 256"):
        ConvolutionalEmbedding(2, 128)


@pytest.mark.parametrize("elements", [5, 50, 10_000])
def test_gradients_pass_through_tiles(monkeypatch, elements):
    monkeypatch.setattr(tiling, "TILE_ELEMENTS", elements)
    queries, keys, values = (torch.randn(1, 1, 2, 2, 5, dtype=torch.float64, requires_grad=True) for _ in range(3))
    base = torch.randn(1, 1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, k, v, b: ResidualScores((q, k), base=b).attend(v), (queries, keys, values, base), fast_mode=True
    )
