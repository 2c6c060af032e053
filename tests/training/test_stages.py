"""All three stages one after the other, from folders to a separated song."""

import csv

import numpy as np
import pytest

from frame_transformer import Separator
from frame_transformer.audio import decode
from frame_transformer.training.run import train

MARGIN_DB = 6.0
QUIET = '--data.phases=[{"until": null, "frames": 48, "batch_size": 4}]'


def curve(output, name: str) -> list[float]:
    with open(output / "logs/csv/metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def sdr(target: np.ndarray, estimate: np.ndarray) -> float:
    return 10 * np.log10(np.sum(target**2) / np.sum((target - estimate) ** 2))


@pytest.fixture(scope="module")
def stages(arguments, tmp_path_factory):
    """The folders of the three runs."""
    root = tmp_path_factory.mktemp("stages")
    common = (QUIET, "--data.crops_per_epoch=200", "--trainer.log_every_n_steps=1", "--model.network.dropout=0",
              "--model.warmup_steps=10", "--trainer.check_val_every_n_epoch=5", "--model.average_decay=0.95")  # fmt: skip
    lr = "--model.optimizer.lr={}".format
    pretrained = train(arguments(root / "1", *common, "--trainer.max_steps=20", lr(0.005), config="pretrain"))
    supervised = train(
        arguments(root / "2", *common, "--trainer.max_steps=70", lr(0.005), f"--model.initial_weights={pretrained}")
    )
    train(
        arguments(
            root / "3", *common, "--trainer.max_steps=50", lr(0.002), config="adversarial",
        ) + [
            f"--model.initial_weights={supervised}", f"--model.discriminator_weights={pretrained}",
            "--model.discriminator.n_fft=512", "--model.discriminator.hop_length=256",
            "--model.discriminator.widths=[2,4,6,8,8,8]", "--model.discriminator.attention_maps=[0,0,0,1,1]",
            "--model.discriminator.heads=2", "--model.discriminator.expansion=1.0", "--model.discriminator_steps_ahead=20",
            "--model.accuracy_weight=100", "--model.discriminator_learning_rate=3"
        ]
    )  # fmt: skip
    return root


def test_separates_an_unseen_song(stages, music):
    kept = music / "songs/validation/kept"
    instrumental, vocals = (decode(kept / f"{stem}.wav")[0] for stem in ("instrumental", "vocals"))
    mixture = instrumental + vocals
    for stage in ("2", "3"):
        stems = Separator(stages / stage / "model.safetensors").separate(mixture, 44_100)
        print(stage, sdr(instrumental, mixture), sdr(instrumental, stems.instrumental), sdr(vocals, mixture), sdr(vocals, stems.vocals))
        assert sdr(instrumental, stems.instrumental) > sdr(instrumental, mixture) + MARGIN_DB


def test_curves(stages):
    for name in ("train/loss_step", "train/loss", "train/restored"):
        for st in "123":
            try: print(st, name, curve(stages / st, name)[::5])
            except KeyError: pass
    for name in ("discriminator", "adversarial", "accuracy", "discriminator_accuracy", "discriminator_accuracy_generated", "discriminator_accuracy_true", "residual_vocals_db"):
        print(name, [round(x, 3) for x in curve(stages / "3", f"train/{name}")[::4]])
