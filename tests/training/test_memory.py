"""What saves memory changes nothing else."""

import torch

from frame_transformer.models import AsymUNetMCTConfig, SignalConfig
from frame_transformer.training import LossWeights, Supervised

from .conftest import NETWORK

SIZES = {name: NETWORK[name] for name in ("heads", "expansion", "latent_layers", "latent_expansion")}


def gradients(**options) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    config = AsymUNetMCTConfig(
        SignalConfig(n_fft=512, hop_length=256), **SIZES, widths=(2, 4, 6), attention_maps=(0, 1),
        positional_embedding=False, restart_latent_residual=False, dropout=0.1,
    )  # fmt: skip
    stage = Supervised(config, loss=LossWeights(sdr=1, multi_resolution=0.1, waveform=0.1), **options)
    instrumental, vocals = 0.1 * torch.randn(2, 2, 2, 256 * 20)
    loss = stage.losses({"mixture": instrumental + vocals, "instrumental": instrumental, "vocals": vocals})["loss"]
    loss.backward()
    return loss.detach(), [parameter.grad for parameter in stage.model.parameters()]


def test_gradient_checkpointing_changes_no_gradient():
    loss, expected = gradients()
    again, found = gradients(gradient_checkpointing=True)
    assert torch.equal(loss, again)
    for one, two in zip(expected, found, strict=True):
        torch.testing.assert_close(one, two)
