"""The commands of the documentation: all parse, and the three stages run one after the other as they are written."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from lightning import Callback

from examples.three_stages import write_songs
from frame_transformer.checkpoints import load_model
from frame_transformer.models.discriminator import FrameDiscriminator
from frame_transformer.training.run import parse, train

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^(?:    frame-transformer train|variant \S+) ((?:.*\\\n)*.*)$", re.MULTILINE)
ONE_STEP = [
    "--trainer.max_steps=1", "--trainer.accelerator=cpu", "--data.workers=0", "--data.validation_share=0",
    '--data.phases=[{"until": null, "frames": 24, "batch_size": 1}]',
]  # fmt: skip


def commands(page: str) -> list[list[str]]:
    """The arguments of every training that a page names, without comments."""
    found = COMMAND.findall((ROOT / page).read_text())
    return [shlex.split(text.replace("\\\n", " "), comments=True) for text in found]


DOCUMENTED = [
    pytest.param(page, arguments, id=f"{Path(page).parent.name}-{number}")
    for page in ("docs/training.md", "docs/quickstart.md", "recipes/default/README.md")
    for number, arguments in enumerate(commands(page))
    if not {"…", "--print_config", "${@:2}"} & set(arguments)
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the commands are run."""
    monkeypatch.chdir(tmp_path)
    write_songs(tmp_path / "music")
    write_songs(tmp_path / "my-music")
    (tmp_path / "music/instrumentals").rename(tmp_path / "music/unlabelled")
    write_songs(tmp_path / "music")
    return tmp_path


@pytest.mark.parametrize(("page", "arguments"), DOCUMENTED)
def test_command_parses(page, arguments, folder, monkeypatch):
    """With files of weights and of validation songs that are not there yet."""
    monkeypatch.setattr("frame_transformer.training.stage.copy_weights", lambda model, path: None)
    monkeypatch.setattr("frame_transformer.training.adversarial.load_model", lambda path: None)
    monkeypatch.setattr(FrameDiscriminator, "copy_encoder", lambda self, model: None)
    monkeypatch.setattr("frame_transformer.training.run.SongValidation", lambda *_: Callback())
    machine = ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.devices=1"]
    with torch.device("meta"):
        (folder / "mine.yaml").write_text(parse(["--config", "tiny", *machine]).full_config)
        parse([*arguments, *machine])


@pytest.mark.timeout(300)
def test_the_three_stages_run_as_documented(folder):
    """With all their sizes, for one step each: the network of each begins where the last one's ended."""
    text = (ROOT / "docs/training.md").read_text()
    section = text[text.index("## 5. The three stages") : text.index("## 6.")]
    stages = [shlex.split(part.replace("\\\n", " ")) for part in COMMAND.findall(section)]
    assert [stage[1] for stage in stages] == ["pretrain", "default", "adversarial"]
    models = [load_model(train([*stage, *ONE_STEP])) for stage in stages]
    assert models[0].config == models[1].config == models[2].config
    weights = [torch.cat([parameter.flatten() for parameter in model.parameters()]) for model in models]
    for before, after in ((0, 1), (1, 2)):
        moved = (weights[after] - weights[before]).abs().max()
        assert 0 < moved < 0.01  # a step of the warm-up, from there
