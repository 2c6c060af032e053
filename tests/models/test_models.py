"""Sizes, scaling down, and model files."""

from dataclasses import replace

import pytest
import torch

from frame_transformer.checkpoints import list_models, load_model, save_model
from frame_transformer.errors import ModelError
from frame_transformer.models import AsymUNetMCTConfig, SignalConfig, V1Config, V2bConfig, V3Config, create_model
from frame_transformer.models.discriminator import DiscriminatorConfig, FrameDiscriminator

BINS_256 = SignalConfig(n_fft=512, hop_length=256)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (V1Config(), 205_945_008),
        (V2bConfig(), 255_797_690),
        (V3Config(), 403_267_058),
        (AsymUNetMCTConfig(expansion=2048), 233_662_403),
    ],
)
def test_published_sizes(config, parameters):
    with torch.device("meta"):
        model = create_model(config)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize(
    "config",
    [
        AsymUNetMCTConfig(BINS_256, widths=(4, 6, 8), attention_maps=0, latent_layers=1, heads=2),
        AsymUNetMCTConfig(BINS_256, widths=(4, 6, 8, 8), attention_maps=(0, 2, 1), heads=2, expansion=0.5),
        AsymUNetMCTConfig(
            SignalConfig(n_fft=128, hop_length=64),
            widths=(4, 4, 4),
            attention_maps=1,
            heads=2,
            latent_layers=0,
            positional_embedding=False,
        ),
    ],
)
def test_asym_unet_mct_scales_down(config):
    model = create_model(config)
    x = torch.rand(2, 2, config.signal.features, 19, requires_grad=True)
    y = model(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    "sizes",
    [{"bands": ((32, 0),)}, {"bands": ((32, 3), (32, 1))}, {"bands": ((16, 1),)}, {"band_channels": 0}, {"widths": ()}],
)
def test_sizes_of_unet_and_discriminator_must_fit_the_signal(sizes):
    signal = SignalConfig(n_fft=128, hop_length=64)
    with pytest.raises(ModelError, match=next(iter(sizes)) + "|positions"):
        AsymUNetMCTConfig(signal, **sizes)
    with pytest.raises(ModelError, match=next(iter(sizes)) + "|positions"):
        FrameDiscriminator(DiscriminatorConfig(**sizes), signal)


SMALL = {"signal": SignalConfig(n_fft=512, hop_length=256, mid_side=True), "heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        V1Config(**SMALL, widths=(1, 2, 4, 6, 8, 10), expansion=1),
        V2bConfig(**SMALL, widths=(1, 2, 4, 6, 8, 10), attention_maps=2, expansion=1),
        V3Config(**SMALL, channels=1, expansion=1, layers=2),
        AsymUNetMCTConfig(**SMALL, widths=(4, 8), attention_maps=2, expansion=8, latent_layers=1),
    ],
    ids=lambda config: type(config).__name__,
)
def test_mid_and_side_are_further_inputs(config):
    model = create_model(config).eval()
    x = torch.rand(1, 4, 256, 9, requires_grad=True)
    y = model(x)
    assert y.shape == (1, 2, 256, 9)
    y.square().sum().backward()
    assert (x.grad.abs().sum(dim=(0, 2, 3)) > 0).all()
    with pytest.raises(ValueError, match="expected"):
        model(x[:, :2])
    with pytest.raises(ModelError, match="mid_side"):
        SignalConfig(channels=1, mid_side=True)


def test_compression_applies_to_the_input():
    config = AsymUNetMCTConfig(
        SignalConfig(n_fft=128, hop_length=64), widths=(4, 8), attention_maps=2, heads=2, expansion=8, latent_layers=1,
        positional_embedding=False,
    )  # fmt: skip
    plain, compressed = create_model(config).eval(), create_model(replace(config, compression=0.5)).eval()
    compressed.load_state_dict(plain.state_dict())
    x = torch.rand(1, 2, 64, 9) * 10
    torch.testing.assert_close(compressed(x.square()), plain(x))
    with pytest.raises(ModelError, match="compression"):
        replace(config, compression=0.0)


def test_compression_applies_to_the_input_of_the_discriminator():
    signal = SignalConfig(n_fft=128, hop_length=64)
    config = DiscriminatorConfig(widths=(4, 8), attention_maps=2)
    plain, compressed = (
        FrameDiscriminator(replace(config, compression=exponent), signal).eval() for exponent in (1.0, 0.5)
    )
    compressed.load_state_dict(plain.state_dict())
    mixture, mask = torch.rand(1, 2, 64, 9) * 10 + 0.1, torch.rand(1, 2, 64, 9).requires_grad_()
    torch.testing.assert_close(compressed(mixture.square(), mixture.square()), plain(mixture, mixture))
    mixture[..., 4:] = 0
    compressed(mixture, mask * mixture).sum().backward()
    assert mask.grad.isfinite().all()


def test_model_files_round_trip(tiny_model, tiny_file):
    x = torch.rand(1, 2, 256, 12)
    again = load_model(tiny_file)
    assert again.config == tiny_model.config
    torch.testing.assert_close(again(x), tiny_model(x), rtol=0, atol=0)


def test_checkpoints_and_strangers(tmp_path):
    with pytest.raises(ModelError, match="unknown model 'nobody'"):
        load_model("nobody")
    text = tmp_path / "text.pth"
    text.write_text("hello")
    with pytest.raises(ModelError, match="not a checkpoint that can be read safely"):
        load_model(text)
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"\0" * 40)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_model(foreign)


def test_a_failed_save_leaves_nothing(tiny_model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frame_transformer.checkpoints.files.save_file", full)
    with pytest.raises(ModelError, match="No space left"):
        save_model(tiny_model, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_default_model_ships_and_says_its_size():
    info = list_models()[0]
    assert info.name == "default"
    assert info.cached
    assert sum(p.numel() for p in load_model("default").parameters()) == info.parameters
