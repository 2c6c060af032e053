"""Schedules of crop length, batch size and learning rate, and the time budget of training."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lightning import Callback, LightningModule, Trainer

from ..errors import TrainingError


@dataclass(frozen=True)
class Phase:
    """A phase of training with crops of one length.

    Attributes:
        until: optimizer step at which the phase ends; None for the last phase.
        frames: spectrogram frames of a crop.
        batch_size: crops of one process in one pass.
        accumulation: passes whose gradients are added up for one step.
    """

    until: int | None = None
    frames: int = 256
    batch_size: int = 4
    accumulation: int = 1

    def samples(self, hop_length: int) -> int:
        """Length of a crop in samples."""
        return (self.frames - 1) * hop_length

    def batches(self, crops: Sequence[int], step: int) -> list[list[int]]:
        """The crops of each pass of an epoch that begins at ``step``: only whole steps, and none after ``until``."""
        passes = len(crops) // (self.batch_size * self.accumulation) * self.accumulation
        if self.until is not None:
            passes = min(passes, (self.until - step) * self.accumulation)
        return [list(crops[number * self.batch_size :][: self.batch_size]) for number in range(passes)]


def check_phases(phases: Sequence[Phase]) -> None:
    """Checks that phases follow each other and the last one has no end.

    Raises:
        TrainingError: they do not, or a size is not positive.
    """
    ends = [phase.until for phase in phases]
    if not ends or ends[-1] is not None:
        raise TrainingError("--data.phases: the last phase must have until: null")
    bounds = [0, *(end or 0 for end in ends[:-1])]
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        raise TrainingError("--data.phases: until must grow from phase to phase, and only the last may be null")
    if any(min(phase.frames, phase.batch_size, phase.accumulation) < 1 for phase in phases):
        raise TrainingError("--data.phases: frames, batch_size and accumulation must be at least 1")


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase of an optimizer step, counted from 0."""
    return next(phase for phase in phases if phase.until is None or step < phase.until)


class Schedule(Callback):
    """Sets the learning rate of every step, measures the time, and ends training when its time is spent.

    The clock stops during validation, and between the runs of a training that is resumed.
    """

    def __init__(
        self,
        warmup_steps: int = 500,
        decay_power: float = 1.0,
        final_learning_rate: float = 0.01,
        max_minutes: float | None = None,
        spent_minutes: float = 0.0,
    ):
        """
        Args:
            warmup_steps: steps over which the learning rate grows linearly to its peak, that of the optimizer.
            decay_power: the learning rate falls with this power of the share of the training that is left.
            final_learning_rate: learning rate at the end, relative to the peak.
            max_minutes: length of the training, including resumed runs; without it, ``trainer.max_steps`` decides.
            spent_minutes: minutes that count as spent at the beginning, such as those of ``model.initial_weights``.
        """
        self.warmup_steps, self.decay_power, self.final_learning_rate = warmup_steps, decay_power, final_learning_rate
        self.max_seconds = None if max_minutes is None else 60 * max_minutes
        self.seconds = 60 * spent_minutes  # as of the last step; the same in all processes
        self.spent, self._running_since = self.seconds, 0.0  # the clock of this process

    def factor(self, step: int, left: float) -> float:
        """The learning rate of a step relative to the peak, with this share of the training left."""
        decay = self.final_learning_rate + (1 - self.final_learning_rate) * left**self.decay_power
        return min((step + 1) / max(1, self.warmup_steps), decay)

    def left(self, trainer: Trainer) -> float:
        """The share of the training that is left, in time or in steps, whichever ends first."""
        shares = [1.0]
        if self.max_seconds is not None:
            shares.append(1 - self.seconds / self.max_seconds)
        if trainer.max_steps > 0:
            shares.append(1 - trainer.global_step / trainer.max_steps)
        return max(0.0, min(shares))

    def pause(self) -> None:
        """Stops the clock."""
        self.spent += time.monotonic() - self._running_since

    def go_on(self) -> None:
        """Starts the clock."""
        self._running_since = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.spent = self.seconds
        self.go_on()
        trainer.should_stop = self.left(trainer) == 0

    def on_train_batch_start(self, trainer: Trainer, stage: Any, batch: Any, batch_idx: int) -> None:
        factor = self.factor(trainer.global_step, self.left(trainer))
        for group, peak in zip(trainer.optimizers[0].param_groups, stage.peak_learning_rates, strict=True):
            group["lr"] = peak * factor
        stage.log("train/learning_rate_factor", factor)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.pause()
            self.go_on()
            self.seconds = trainer.strategy.broadcast(self.spent)
            trainer.should_stop = trainer.should_stop or self.left(trainer) == 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.go_on()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]
