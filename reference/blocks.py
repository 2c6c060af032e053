"""Plain blocks. Tensors are (batch, channels, frequency, time); attention scores are (…, query time, key time)."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


class Weights:
    """The part of a state dict below a prefix: ``w.norm["weight"]``, ``w.encoders[3]``."""

    def __init__(self, state: Mapping[str, Tensor], prefix: str = ""):
        self._state, self._prefix = state, prefix

    def __getattr__(self, name: str) -> "Weights":
        return Weights(self._state, f"{self._prefix}{name}.")

    def at(self, index: int) -> "Weights":
        return Weights(self._state, f"{self._prefix}{index}.")

    def __getitem__(self, leaf: str) -> Tensor:
        return self._state[self._prefix + leaf]

    def get(self, leaf: str) -> Tensor | None:
        return self._state.get(self._prefix + leaf)

    def __bool__(self) -> bool:
        return any(key.startswith(self._prefix) for key in self._state)


def squared_relu(x: Tensor) -> Tensor:
    return torch.square(functional.relu(x))


def conv(w: Weights, x: Tensor, stride: tuple[int, int] = (1, 1), groups: int = 1) -> Tensor:
    height, width = w["weight"].shape[2:]
    return functional.conv2d(x, w["weight"], w.get("bias"), stride, (height // 2, width // 2), groups=groups)


def band_split(w: Weights, x: Tensor, bands) -> Tensor:
    """Position by position: the bins of a patch, all channels of them, times one matrix a band."""
    positions, first = [], 0
    for index, (bins, patch) in enumerate(bands):
        band = w.bands.at(index)
        for low in range(first, first + bins, patch):
            values = x[:, :, low : low + patch].flatten(1, 2)
            positions.append(torch.einsum("oi,bit->bot", band["weight"][:, :, 0, 0], values) + band["bias"][:, None])
        first += bins
    return torch.stack(positions, dim=2)


def band_merge(w: Weights, x: Tensor, bands) -> Tensor:
    parts, position = [], 0
    for index, (bins, patch) in enumerate(bands):
        band = w.bands.at(index)
        for _ in range(bins // patch):
            values = torch.einsum("oi,bit->bot", band["weight"][:, :, 0, 0], x[:, :, position]) + band["bias"][:, None]
            parts.append(values.unflatten(1, (-1, patch)))
            position += 1
    return torch.cat(parts, dim=2)


def depthwise(w: Weights, x: Tensor) -> Tensor:
    return conv(w, x, groups=x.shape[1])


def linear(w: Weights, x: Tensor) -> Tensor:
    y = torch.matmul(x.transpose(2, 3), w["weight_pw"].transpose(1, 2)).transpose(2, 3)
    mix = w.get("weight_dw")
    return y if mix is None else torch.matmul(y.transpose(1, 3), mix.t()).transpose(1, 3)


def norm_per_channel(w: Weights, x: Tensor) -> Tensor:
    y = functional.layer_norm(x.transpose(2, 3), (x.shape[2],), eps=1e-8) * w["weight"] + w["bias"]
    return y.transpose(2, 3)


def norm_shared(w: Weights, x: Tensor) -> Tensor:
    return functional.layer_norm(x.transpose(2, 3), (x.shape[2],), w["weight"], w["bias"]).transpose(2, 3)


def norm_channels(w: Weights, x: Tensor) -> Tensor:
    return functional.layer_norm(x.transpose(1, 3), (x.shape[1],), w["weight"], w["bias"]).transpose(1, 3)


def frame_conv(w: Weights, x: Tensor) -> Tensor:
    return linear(w.linear, depthwise(w.conv, x))


def res_block(w: Weights, x: Tensor, norm=norm_per_channel, stride: tuple[int, int] = (1, 1)) -> Tensor:
    identity = conv(w.identity, x, stride) if w.identity else x
    y = norm(w.norm, x)
    if w.conv1.get("weight_pw") is not None:
        return identity + linear(w.conv2, squared_relu(linear(w.conv1, y)))
    return identity + conv(w.conv2, squared_relu(conv(w.conv1, y)), stride)


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


def positional_embedding(w: Weights, x: Tensor) -> Tensor:
    size = x.shape[2:]
    if w.extract.at(0).norm["weight"].shape[0] == x.shape[1] + 1:
        table = torch.zeros(size, dtype=x.dtype)
        for f in range(0, size[0], 2):
            angle = torch.arange(size[1]) * math.exp(-math.log(10_000) * f / size[0])
            table[f], table[f + 1] = angle.sin(), angle.cos()
        x = torch.cat((x, table.expand(len(x), 1, -1, -1)), dim=1)
    maps = [res_block(w.extract.at(0), x)]
    for level in range(8):
        x = res_block(w.encode.at(level), x, stride=(2, 2))
        maps.append(upsample(res_block(w.extract.at(level + 1), x), size))
    return res_block(w.out, torch.cat(maps, dim=1))


def rotate(x: Tensor) -> Tensor:
    """Rotary embedding of (…, time, width): tables of every feature, and the pairs swapped with a sign."""
    time, width = x.shape[-2:]
    if width < 2:
        return x
    frequencies = 10_000 ** (-torch.arange(0, width - width % 2, 2).float() / width)
    angles = torch.einsum("t,d->td", torch.arange(time).float(), frequencies).repeat_interleave(2, dim=-1).to(x.dtype)
    paired, rest = x[..., : angles.shape[-1]], x[..., angles.shape[-1] :]
    swapped = torch.stack((-paired[..., 1::2], paired[..., 0::2]), dim=-1).flatten(-2)
    return torch.cat((paired * angles.cos() + swapped * angles.sin(), rest), dim=-1)


def project(w: Weights, x: Tensor) -> Tensor:
    if w.get("weight_pw") is not None:
        return linear(w, x)
    if w.at(1).get("weight_pw") is not None:
        return linear(w.at(1), depthwise(w.at(0), x))
    return conv(w.at(1), linear(w.at(0), x))


def softmax_attention(
    queries: Tensor, keys: Tensor, values: Tensor, scale: float, previous: Tensor | None
) -> tuple[Tensor, Tensor]:
    scores = torch.matmul(rotate(queries), rotate(keys).transpose(-1, -2)) * scale
    if previous is not None:
        scores = scores + previous
    return torch.matmul(functional.softmax(scores, dim=-1), values), scores


def attention(
    w: Weights, x: Tensor, heads: int, memory: Tensor | None = None, previous: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    memory = x if memory is None else memory
    batch, maps, features, time = x.shape

    def split(y: Tensor) -> Tensor:
        return y.transpose(2, 3).reshape(batch, maps, time, heads, features // heads).transpose(2, 3)

    queries, keys, values = split(project(w.q_proj, x)), split(project(w.k_proj, memory)), project(w.v_proj, memory)
    out, scores = softmax_attention(queries, keys, split(values), features**-0.5, previous)
    return linear(w.o_proj, out.transpose(2, 3).reshape(batch, maps, time, features).transpose(2, 3)), scores


def position_attention(w: Weights, x: Tensor, heads: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, channels, features, time = x.shape

    def split(y: Tensor) -> Tensor:
        return y.reshape(batch, heads, channels // heads, features * time).transpose(2, 3)

    queries, keys, values = (split(conv(p, x)) for p in (w.q_proj, w.k_proj, w.v_proj))
    out, scores = softmax_attention(queries, keys, values, channels**-0.5, previous)
    return conv(w.o_proj, out.transpose(2, 3).reshape(x.shape)), scores


def score_gate(w: Weights, running: Tensor, skip: Tensor) -> Tensor:
    both = torch.cat((running, skip), dim=1)
    hidden = squared_relu(functional.conv3d(both, w.at(0)["weight"], w.at(0)["bias"], padding=1))
    gate = functional.conv3d(hidden, w.at(2)["weight"], w.at(2)["bias"], padding=1).sigmoid()
    return gate * running + (1 - gate) * skip


def embed(w: Weights, x: Tensor) -> Tensor:
    return conv(w.embed, x) if w.embed else x


def feed_forward(w: Weights, x: Tensor) -> Tensor:
    step = linear if w.at(0).get("weight_pw") is not None else conv
    return step(w.at(2), squared_relu(step(w.at(0), x)))


def encoder_block(w: Weights, x: Tensor, heads: int, norm, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
    h = embed(w, x)
    attended, scores = attention(w.attn, norm(w.norm1, h), heads, previous=previous)
    h = h + attended
    return h + feed_forward(w.feed_forward, norm(w.norm2, h)), scores


def evolved_encoder(w: Weights, x: Tensor, heads: int, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    norm = norm_per_channel
    h = embed(w, x)
    h = h + functional.glu(linear(w.glu.at(0), norm(w.norm1, h)), dim=2)
    z = norm(w.norm2, h)
    h = h + squared_relu(linear(w.conv1a, z)) + squared_relu(frame_conv(w.conv1b, z))
    h = h + frame_conv(w.conv2, norm(w.norm3, h))
    attended, scores = attention(w.attn, norm(w.norm4, h), heads, previous=previous)
    h = h + attended
    return h + feed_forward(w.feed_forward, norm(w.norm5, h)), scores


def evolved_decoder(
    w: Weights,
    x: Tensor,
    heads: int,
    skip: Tensor,
    skip_scores: Tensor,
    self_scores: Tensor | None,
    cross_scores: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    norm = norm_per_channel
    h = embed(w, x)
    z = norm(w.norm1, h)
    attended, self_scores = attention(w.attn1a, z, heads, previous=self_scores)
    cross_scores = skip_scores if cross_scores is None else score_gate(w.gate1, cross_scores, skip_scores)
    attended_skip, cross_scores = attention(w.attn1b, z, heads, skip, cross_scores)
    h = h + attended + attended_skip
    z = norm(w.norm2, h)
    h = h + frame_conv(w.conv2, norm(w.norm3, squared_relu(frame_conv(w.conv1a, z)) + frame_conv(w.conv1b, z)))
    attended, self_scores = attention(w.attn2, norm(w.norm4, h), heads, previous=self_scores)
    h = h + attended
    cross_scores = score_gate(w.gate2, cross_scores, skip_scores)
    attended, cross_scores = attention(w.attn3, norm(w.norm5, h), heads, skip, cross_scores)
    h = h + attended
    return h + feed_forward(w.feed_forward, norm(w.norm6, h)), self_scores, cross_scores


def latent_layer(w: Weights, x: Tensor, heads: int, restart: bool, previous: Tensor | None) -> tuple[Tensor, Tensor]:
    norm = norm_channels

    def separable(v: Weights, y: Tensor) -> Tensor:
        return conv(v.at(1), depthwise(v.at(0), y))

    h = x + functional.glu(conv(w.glu.at(0), norm(w.norm1, x)), dim=1)
    z = norm(w.norm2, h)
    h = h + squared_relu(conv(w.conv1a, z)) + squared_relu(separable(w.conv1b, z))
    h = h + separable(w.conv2, norm(w.norm3, h))
    attended, scores = position_attention(w.attn, norm(w.norm4, h), heads, previous)
    h = (x if restart else h) + attended
    return h + feed_forward(w.feed_forward, norm(w.norm5, h)), scores
