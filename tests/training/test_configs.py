"""Every configuration parses, and its model can be built."""

import pytest
import torch

from frame_transformer.training.run import INCLUDED, parse

PARAMETERS = {"asym_unet_mct": 501e6, "default": 4.08e6, "v1": 205.9e6, "v2b": 255.8e6, "v3": 403.3e6}


@pytest.mark.parametrize("name", INCLUDED)
def test_config_parses_and_builds(name, tmp_path):
    with torch.device("meta"):
        cli = parse(
            ["--config", name, f"--output={tmp_path}", "--trainer.accelerator=cpu", "--trainer.precision=32-true"]
        )
    parameters = sum(parameter.numel() for parameter in cli.model.model.parameters())
    assert parameters == pytest.approx(PARAMETERS.get(name, parameters), rel=0.01)
    assert cli.datamodule.phases[-1].until is None
    # What is saved beside the checkpoints is whole: it parses to the same.
    saved = tmp_path / "config.yaml"
    saved.write_text(cli.full_config)
    with torch.device("meta"):
        assert parse(["--config", str(saved), f"--output={tmp_path}"]).model.network == cli.model.network


def test_every_documented_config_is_there():
    assert {"default", "tiny", "asym_unet_mct", "v1", "v2b", "v3", "pretrain", "adversarial"} == set(INCLUDED)
