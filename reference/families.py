"""The wiring of the four families over the plain blocks."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from . import blocks as b


def _asym_unet_mct(w: b.Weights, x: Tensor, config) -> Tensor:
    heads, maps = config.heads, config.maps[:-1]
    x = x**config.compression
    if w.positional_embedding:
        x = torch.cat((x, b.positional_embedding(w.positional_embedding, x)), dim=1)
    if config.bands:
        x = b.band_split(w.split, x, config.bands)
    kept, scores, before = [], None, 0
    for level, count in enumerate(maps):
        x = b.res_block(w.levels.at(level).encoder.body, x, stride=(2 if level else 1, 1))
        h = None
        if count:
            previous = scores if count == before else None
            h, scores = b.evolved_encoder(w.levels.at(level).encoder_transformer, x, heads, previous)
            x = torch.cat((x, h), dim=1)
        before = count
        kept.append((x, h, scores))
    x = b.res_block(w.levels.at(len(maps)).encoder.body, x, stride=(2, 1))
    scores = None
    for layer in range(config.latent_layers):
        x, scores = b.latent_layer(w.latent.at(layer), x, heads, config.restart_latent_residual, scores)
    self_scores = cross_scores = None
    before = 0
    for level, count in reversed(list(enumerate(maps))):
        skip, memory, skip_scores = kept.pop()
        x = b.res_block(w.levels.at(level).decoder.body, torch.cat((b.upsample(x, skip.shape[2:]), skip), dim=1))
        if count and config.decoder_attention:
            if count != before:
                self_scores = cross_scores = None
            h, self_scores, cross_scores = b.evolved_decoder(
                w.levels.at(level).decoder_transformer, x, heads, memory, skip_scores, self_scores, cross_scores
            )
            x = torch.cat((x, h), dim=1)
        before = count
    return b.band_merge(w.out, x, config.bands) if config.bands else b.conv(w.out, x)


def _v1(w: b.Weights, x: Tensor, config) -> Tensor:
    heads, norm = config.heads, b.norm_shared
    h, _ = b.encoder_block(w.input_transformer, x, heads, norm)
    x = torch.cat((x, h), dim=1)
    kept = []
    for level in range(6):
        x = b.res_block(w.levels.at(level).encoder.body, x, norm, (2 if level else 1, 1))
        h, _ = b.encoder_block(w.levels.at(level).encoder_transformer, x, heads, norm)
        x = torch.cat((x, h), dim=1)
        kept.append((x, h))
    kept.pop()
    for level in reversed(range(5)):
        skip, memory = kept.pop()
        x = b.res_block(w.levels.at(level).decoder.body, torch.cat((b.upsample(x, skip.shape[2:]), skip), dim=1), norm)
        d = w.levels.at(level).decoder_transformer
        h = b.embed(d, x)
        h = h + b.attention(d.attn1, norm(d.norm1, h), heads)[0]
        h = h + b.attention(d.attn2, norm(d.norm1, h), heads, memory)[0]
        h = h + b.feed_forward(d.feed_forward, norm(d.norm2, h))
        x = torch.cat((x, h), dim=1)
    return b.conv(w.out, x)


def _v2b(w: b.Weights, x: Tensor, config) -> Tensor:
    heads, norm = config.heads, b.norm_per_channel
    x = torch.cat((x, b.positional_embedding(w.positional_embedding, x)), dim=1)
    h, scores = b.encoder_block(w.input_transformer, x, heads, norm)
    x = torch.cat((x, h), dim=1)
    kept = []
    for level in range(6):
        x = b.res_block(w.levels.at(level).encoder.body, x, stride=(2 if level else 1, 1))
        h, scores = b.encoder_block(w.levels.at(level).encoder_transformer, x, heads, norm, scores)
        x = torch.cat((x, h), dim=1)
        kept.append((x, h, scores))
    kept.pop()
    for level in reversed(range(5)):
        skip, memory, skip_scores = kept.pop()
        x = b.res_block(w.levels.at(level).decoder.body, torch.cat((b.upsample(x, skip.shape[2:]), skip), dim=1))
        d = w.levels.at(level).decoder_transformer
        h = b.embed(d, x)
        attended, scores = b.attention(d.attn1, norm(d.norm1, h), heads, previous=scores)
        h = h + attended
        h = h + b.attention(d.attn2, norm(d.norm2, h), heads, memory, skip_scores)[0]
        h = h + b.feed_forward(d.feed_forward, norm(d.norm3, h))
        x = torch.cat((x, h), dim=1)
    return b.conv(w.out, x)


def _v3(w: b.Weights, x: Tensor, config) -> Tensor:
    x = torch.cat((x, b.positional_embedding(w.positional_embedding, x)), dim=1)
    h = b.conv(w.conv2, b.squared_relu(b.conv(w.conv1, b.norm_per_channel(w.norm, x)))) + b.conv(w.identity, x)
    scores = None
    for layer in range(config.layers):
        h, scores = b.encoder_block(w.transformer.at(layer), h, config.heads, b.norm_per_channel, scores)
    return b.conv(w.out, h)


_FAMILIES: dict[str, Callable[..., Tensor]] = {
    "AsymUNetMCTConfig": _asym_unet_mct,
    "V1Config": _v1,
    "V2bConfig": _v2b,
    "V3Config": _v3,
}


def reference_forward(config, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Logits (batch, 2, n_fft / 2, time) of the network with this configuration and state dict."""
    return _FAMILIES[type(config).__name__](b.Weights(state), x, config)
