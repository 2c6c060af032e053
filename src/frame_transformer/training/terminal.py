"""Terminal output of training: messages and one progress line."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from .schedule import Schedule


@rank_zero_only
def say(message: str) -> None:
    """Prints a line to standard error in the first process only, in place of a progress line."""
    print("\r\x1b[K" * sys.stderr.isatty() + message, file=sys.stderr, flush=True)


@rank_zero_only
def show(message: str) -> None:
    """Shows a progress line, which replaces the previous one in a terminal."""
    terminal = sys.stderr.isatty()
    print("\r\x1b[K" * terminal + message, end="" if terminal else "\n", file=sys.stderr, flush=True)


def counted(what: str) -> Callable[[int, int, str], None]:
    """A callback with (songs done, total songs, name of the last one); shows at most one line a second."""
    shown = time.monotonic()

    def progress(done: int, total: int, name: str) -> None:
        nonlocal shown
        if time.monotonic() > shown + (1 if sys.stderr.isatty() else 30):
            shown = time.monotonic()
            show(f"{what} {done} of {total} songs")

    return progress


class ProgressLine(ProgressBar):
    """Step, loss and SDR (averages over about the last hundred batches), samples per second, and the time left.

    In a terminal the line is updated in place; elsewhere a new one is printed every minute.
    """

    def __init__(self, schedule: Schedule):
        super().__init__()
        self.schedule = schedule
        self.interval = 0.5 if sys.stderr.isatty() else 60.0
        self._averages: dict[str, Tensor] = {}
        self._passes = self._samples = 0

    def disable(self) -> None:
        """Called in all processes but the first, in which `show` prints nothing."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._shown_at = time.monotonic()
        self._shown_seconds = self._first_seconds = self.schedule.seconds
        self._first_left = self.schedule.left(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._samples += len(batch["mixture"]) * trainer.world_size
        self._passes += 1
        for name, value in outputs["shown"].items():
            average = self._averages.setdefault(name, value.clone())
            average += (value - average) / min(self._passes, 100)
        spent = self.schedule.seconds - self._shown_seconds
        if spent and (time.monotonic() > self._shown_at + self.interval or trainer.should_stop):
            show(self.line(trainer, self._samples / spent))
            self._shown_at, self._shown_seconds, self._samples = time.monotonic(), self.schedule.seconds, 0

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        say("")

    def line(self, trainer: Trainer, samples_per_second: float) -> str:
        """The text of the progress line."""
        averages = {name: float(value) for name, value in self._averages.items()}
        parts = [f"step {trainer.global_step}", f"loss {averages.pop('loss'):.4f}"]
        if averages:
            parts.append("SDR " + ", ".join(f"{name} {value:.1f} dB" for name, value in averages.items()))
        left, first = self.schedule.left(trainer), self._first_left
        parts.append(f"{samples_per_second:.1f} samples/s")
        if left < first:
            rest = (self.schedule.seconds - self._first_seconds) * left / (first - left)
            parts.append(f"{timedelta(seconds=round(rest))} left")
        return " | ".join(parts)
