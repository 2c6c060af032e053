"""The families against their plain formulation, at other sizes than the golden ones."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frame_transformer.models import AsymUNetMCTConfig, SignalConfig, V1Config, V2bConfig, V3Config, create_model
from reference import reference_forward

LADDER = (1, 2, 4, 6, 8, 10)
FRAMES = st.integers(1, 40)
HEADS = st.sampled_from([1, 2, 4])
SMALL = {"signal": SignalConfig(n_fft=512, hop_length=256)}


def relative_error(config, frames, batch=1, seed=0):
    torch.manual_seed(seed)
    model = create_model(config).requires_grad_(False).eval()
    for key, parameter in model.named_parameters():
        if "norm" in key.split(".")[-2]:
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.rand(batch, config.signal.inputs, config.signal.features, frames).square()
    with torch.inference_mode():
        expected = reference_forward(config, model.state_dict(), x)
        return float((model(x) - expected).norm() / expected.norm())


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 3), HEADS, st.integers(1, 3), FRAMES, st.integers(1, 2))
def test_v1(channels, heads, expansion, frames, batch):
    config = V1Config(**SMALL, widths=tuple(channels * m for m in LADDER), heads=heads, expansion=expansion)
    assert relative_error(config, frames, batch) <= 1e-4


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 3), HEADS, st.integers(1, 3), st.integers(1, 3), FRAMES, st.integers(1, 2))
def test_v2b(channels, heads, expansion, maps, frames, batch):
    widths = tuple(channels * m for m in LADDER)
    config = V2bConfig(**SMALL, widths=widths, heads=heads, expansion=expansion, attention_maps=maps)
    assert relative_error(config, frames, batch) <= 1e-4


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 3), HEADS, st.integers(1, 4), FRAMES, st.integers(1, 2))
def test_v3(channels, heads, layers, frames, batch):
    config = V3Config(**SMALL, channels=channels, heads=heads, layers=layers, expansion=2)
    assert relative_error(config, frames, batch) <= 1e-4


@settings(max_examples=5, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([4, 8]), st.integers(0, 2)), min_size=2, max_size=5),
    HEADS,
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), ((256, 4),), ((64, 1), (192, 3)), ((32, 1), (96, 4), (128, 16))]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.0, 0.3]),
    FRAMES,
)
def test_asym_unet_mct(
    levels, heads, latent_layers, positional_embedding, restart, bands, decoder_attention, mid_side, compression, frames
):
    widths, maps = zip(*levels, strict=True)
    config = AsymUNetMCTConfig(
        SignalConfig(n_fft=512, hop_length=256, mid_side=mid_side),
        compression=compression,
        widths=widths,
        attention_maps=maps[:-1],
        heads=heads,
        expansion=0.5,
        latent_layers=latent_layers,
        positional_embedding=positional_embedding,
        restart_latent_residual=restart,
        bands=bands,
        decoder_attention=decoder_attention,
    )
    assert relative_error(config, frames) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("config", [V1Config(), V2bConfig(), V3Config(), AsymUNetMCTConfig()])
def test_published_sizes(config):
    """Two hundred to five hundred million parameters each: up to 4 GB."""
    assert relative_error(config, 64) <= 1e-4
