"""Checkpoints: atomic writing, saving when a run is stopped, and finding the one to resume from."""

import os
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


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file beside its target and moves it into place.

    Lightning itself collects a checkpoint in memory first and writes it to the system's temporary folder. Moving it
    from there is not atomic on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        try:
            with whole(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError if the disk is full
            raise TrainingError(
                f"{path}: cannot be written: {error}. Earlier checkpoints are intact: make room and continue with"
                " --resume auto"
            ) from error


class Checkpoints(Checkpoint):
    """Saves checkpoints at regular steps, at the end, and on Ctrl-C or SIGTERM; a second Ctrl-C stops at once.

    Checkpoints are saved right after a step, so that a resumed run continues exactly there. The newest ``keep`` files
    are kept. Lightning's own callback does not save at the end of training or on signals.
    """

    def __init__(self, folder: Path, every: int, keep: int = 2):
        self.folder, self.every, self.keep = folder, every, keep
        self.stop_asked = False
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not earlier, because Lightning installs its own SIGTERM handler after setup, which saves no checkpoint.
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
        # All processes must stop at the same step, whichever got the signal.
        self.stop_asked = trainer.strategy.reduce_boolean_decision(self.stop_asked, all=False)
        trainer.should_stop = trainer.should_stop or self.stop_asked
        if step % self.every and step != trainer.max_steps and not trainer.should_stop:
            return
        trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt")
        if trainer.is_global_zero:
            for old in checkpoints(self.folder)[self.keep :]:
                old.unlink()


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in the folder of a run, the latest first."""
    return sorted(folder.glob(f"step-{8 * '[0-9]'}.ckpt"), reverse=True)


def to_resume(resume: str, folder: Path) -> Path | None:
    """The checkpoint that ``--resume`` means: "auto" is the latest in ``folder``, if any; "never" is none.

    Raises:
        TrainingError: the file is missing, or a new run would overwrite the checkpoints of another.
    """
    latest = next(iter(checkpoints(folder)), None)
    if resume == "auto":
        return latest
    if resume == "never":
        if latest:
            raise TrainingError(f"{folder} holds a run: continue it with --resume auto, or choose another --output")
        return None
    if not Path(resume).is_file():
        raise TrainingError(f"{resume}: no such checkpoint; --resume takes auto, never or a file")
    return Path(resume)
