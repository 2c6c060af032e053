"""Callbacks: gradient accumulation by phase, separated excerpts, and validation on whole songs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image
from torch import Tensor

from ..audio import AudioWriter
from ..data import Song
from ..data.catalogue import top_folder
from ..evaluation.metrics import SAMPLE_RATE, utterance_sdr
from ..evaluation.songs import find_references, read_references
from ..separation import STEMS, Separator, StemBlock
from ..separation.pictures import SpectrogramPictures
from .schedule import Schedule
from .terminal import say


class Accumulation(Callback):
    """Sets gradient accumulation to that of the current phase."""

    def on_train_batch_start(self, trainer: Any, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # Not at the start of the epoch, which a run that is resumed within an epoch does not reach.
        trainer.accumulate_grad_batches = trainer.datamodule.phase.accumulation


class Excerpts(Callback):
    """Saves a separated excerpt after each validation: in ``excerpts/``, and in TensorBoard or Weights & Biases.

    The picture shows the spectrograms of mixture, vocals and instrumental from top to bottom.
    """

    def on_validation_epoch_end(self, trainer: Trainer, stage: Any) -> None:
        if stage.excerpt is None or not trainer.is_global_zero:
            return
        step, rate = trainer.global_step, stage.network.signal.sample_rate
        stems = {name: stem.cpu().numpy() for name, stem in stage.excerpt.items()}
        pictures = SpectrogramPictures()
        pictures.push(StemBlock(**stems))
        images = pictures.finish()
        picture = np.concatenate([np.asarray(images[name]) for name in stems])
        folder = Path(trainer.default_root_dir) / "excerpts"
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"step-{step:08d}.png")
        for name, stem in stems.items():
            with AudioWriter(folder / f"step-{step:08d}-{name}.flac", rate, len(stem)) as writer:
                writer.write(stem)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("excerpt", picture, step, dataformats="HWC")
                for name, stem in stems.items():
                    logger.experiment.add_audio(f"excerpt/{name}", stem.mean(axis=0).clip(-1, 1), step, rate)
            elif isinstance(logger, WandbLogger):
                logger.log_image("excerpt", [picture], step)
                for name, stem in stems.items():
                    logger.log_audio(f"excerpt/{name}", [stem.T], step, sample_rate=[rate])


class SongValidation(Callback):
    """Evaluates the EMA of the weights on whole songs at regular intervals, and at the end of training.

    A measurement is one line of ``validation.jsonl`` in the folder of the run: step, minutes of training, mean loss
    since the previous one, and the utterance SDR (dB) of vocals and instrumental. Songs are folders with ``vocals`` and
    ``instrumental``, optionally in groups (``group/song/vocals``), which are reported as the mean of their songs. The
    model is written to ``model.safetensors`` at the same time.
    """

    def __init__(self, folder: Path, every_minutes: float, schedule: Schedule):
        """
        Args:
            folder: folder of the songs.
            every_minutes: minutes of training between measurements.
            schedule: clock of the training, paused during measurements.

        Raises:
            DataError: the folder holds no songs with stems.
        """
        self.songs, self.every_minutes, self.schedule = find_references([folder]), every_minutes, schedule
        self._losses: list[Tensor] = []
        self._due = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = self.schedule.seconds + 60 * self.every_minutes

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(outputs["shown"]["loss"])

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # Before a step rather than after it, when the checkpoint of the last step has been written.
        if self._losses and self.schedule.seconds >= self._due:
            self._due = self.schedule.seconds + 60 * self.every_minutes
            self.measure(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self._losses and self.schedule.left(trainer) == 0:
            self.measure(trainer, pl_module)

    def measure(self, trainer: Trainer, stage: Any) -> None:
        """Writes the model, separates the songs with it and writes the scores."""
        self.schedule.pause()
        folder = Path(trainer.default_root_dir)
        stage.save(folder / "model.safetensors")
        if trainer.is_global_zero:
            separator = Separator(folder / "model.safetensors", device=str(stage.device))
            groups: dict[str, list[tuple[float, float]]] = {}
            for song in self.songs:
                groups.setdefault(top_folder(song.name), []).append(sdr_of_stems(separator, song))
            means = {group: np.nanmean(values, axis=0).round(3).tolist() for group, values in groups.items()}
            loss = round(float(torch.stack(self._losses).mean()), 4)
            line: dict[str, Any] = {
                "step": trainer.global_step,
                "minutes": round(self.schedule.seconds / 60, 2),
                "loss": loss,
            }
            line |= {group: dict(zip(STEMS, values, strict=True)) for group, values in means.items()}
            with (folder / "validation.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            say(json.dumps(line))
            metrics = {f"songs/{group}/{stem}": sdr for group in means for stem, sdr in line[group].items()}
            for logger in trainer.loggers:
                logger.log_metrics(metrics, trainer.global_step)
        self._losses.clear()
        trainer.strategy.barrier()
        self.schedule.go_on()


def sdr_of_stems(separator: Separator, song: Song) -> tuple[float, float]:
    """Utterance SDR of vocals and instrumental in dB; NaN for a stem that is silent."""
    true = read_references(song)
    stems = separator.separate(true.mixture, SAMPLE_RATE)
    return utterance_sdr(true.vocals, stems.vocals), utterance_sdr(true.instrumental, stems.instrumental)
