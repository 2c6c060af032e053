"""Checkpoints that are there whole or not at all, stopping with one, and finding the one to go on from."""

import os
import re
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from ..errors import TrainingError
from ..files import whole

NAME = re.compile(r"step-(\d+)\.ckpt")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and moves into place once all is on the disk.

    Lightning's own writing collects a checkpoint in memory first, and passes through the system's temporary folder,
    from where the move is no single operation if that is another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            with whole(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer turns a full disk into a RuntimeError
            raise TrainingError(
                f"{path}: cannot be written: {error}. Earlier checkpoints are intact: make room and continue with"
                " --resume auto"
            ) from error


class Checkpoints(Checkpoint):
    """Saves right after a step, so that a resumed run goes on exactly there: every so many steps, at the end, and when
    the run is told to stop (Ctrl-C, or SIGTERM from a scheduler). A second Ctrl-C stops at once.

    Lightning's own callback knows neither the end of training nor signals. The newest ``keep`` files stay.
    """

    def __init__(self, folder: Path, every: int, keep: int = 2):
        self.folder, self.every, self.keep = folder, every, keep
        self.stop_asked = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not earlier, because Lightning's own handler of SIGTERM, which stops without a checkpoint, comes after setup.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()

    def _ask(self, number: int, frame: Any) -> None:
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        # All processes must stop at the same step, whichever was told.
        self.stop_asked = trainer.strategy.reduce_boolean_decision(self.stop_asked, all=False)
        trainer.should_stop = trainer.should_stop or self.stop_asked
        if step % self.every and step != trainer.max_steps and not trainer.should_stop:
            return
        trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt")
        if trainer.is_global_zero:
            for old in checkpoints(self.folder)[self.keep :]:
                old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """The finished checkpoints in a run's folder, the latest first."""
    found = [path for path in folder.glob("step-*.ckpt") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(NAME.fullmatch(path.name)[1]), reverse=True)  # type: ignore[index]


def to_resume(resume: str, folder: Path) -> Path | None:
    """The checkpoint that ``--resume`` means: "auto" is the latest in ``folder``, if any; "never" is none.

    Raises TrainingError when the file named is not there, and when a run would begin over the checkpoints of another.
    """
    latest = checkpoints(folder)[:1]
    if resume == "auto":
        return latest[0] if latest else None
    if resume == "never":
        if latest:
            raise TrainingError(f"{folder} holds a run: continue it with --resume auto, or choose another --output")
        return None
    if not Path(resume).is_file():
        raise TrainingError(f"{resume}: no such checkpoint; --resume takes auto, never or a file")
    return Path(resume)
