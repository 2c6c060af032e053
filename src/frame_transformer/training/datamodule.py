"""The data of a run: crops as long and batches as large as the phase says, resumable at any step."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from ..data import CropSampler, DataError, VoxAug
from ..data.datamodule import TrainingData
from .schedule import Phase, check_phases, phase_at


class Batches(Sampler[list[int]]):
    """The crop numbers of one epoch in batches; those before ``start`` were trained on before an interruption."""

    def __init__(self, numbers: Sequence[int], batch_size: int, batches: int, start: int):
        self.numbers, self.batch_size, self.batches, self.start = numbers, batch_size, batches, start

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start, self.batches):
            yield list(self.numbers[batch * self.batch_size : (batch + 1) * self.batch_size])


class ScheduledData(TrainingData):
    """`TrainingData` whose crop length and batch size follow phases, and whose spectrogram is the network's.

    An epoch ends where its phase ends, so that all steps of an epoch are alike; it consists of whole steps. Needs a
    `Stage`, and a Trainer with ``use_distributed_sampler=False`` and ``reload_dataloaders_every_n_epochs=1``.
    """

    trainer: Any  # there is one whenever the methods below run

    def __init__(self, *, phases: list[Phase] = [Phase()], **kwargs: Any) -> None:  # noqa: B008 - frozen
        """
        Args:
            phases: lengths of crops and sizes of batches, in order.
        """
        check_phases(phases)
        # The three come from the phases and the stage, so they are no options of a run.
        super().__init__(task="separate", samples=0, batch_size=0, **kwargs)
        self.phases = phases
        self._epoch_begin = 0  # optimizer step at which the epoch began
        self.batches_done = 0  # batches of the epoch that were trained on; the stage counts them
        self._resumed = False

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        signal = self.trainer.lightning_module.network.signal
        self.task = self.trainer.lightning_module.task
        self.voxaug = replace(self.voxaug, n_fft=signal.n_fft, hop_length=signal.hop_length)
        self.hop_length = signal.hop_length

    def train_dataloader(self) -> DataLoader:
        if not self._resumed:
            self._epoch_begin, self.batches_done = self.trainer.global_step, 0
        self._resumed = False
        phase = phase_at(self.phases, self._epoch_begin)
        self.samples, self.batch_size = (phase.frames - 1) * self.hop_length, phase.batch_size
        self.trainer.accumulate_grad_batches = phase.accumulation
        rank, ranks = self._rank_and_ranks()
        numbers = list(CropSampler(self.crops_per_epoch, rank, ranks, self.trainer.current_epoch))
        steps = max(1, len(numbers) // (phase.batch_size * phase.accumulation))
        if phase.until is not None:
            steps = min(steps, phase.until - self._epoch_begin)
        batches = steps * phase.accumulation
        if batches * phase.batch_size > len(numbers):
            raise DataError(f"crops_per_epoch of {self.crops_per_epoch} are not enough for one step; raise it")
        return DataLoader(
            self._dataset(self.training_songs, VoxAug(self.samples, self.voxaug).read_samples, self.crops),
            batch_sampler=Batches(numbers, phase.batch_size, batches, self.batches_done),
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if self.workers else None,
        )

    def val_dataloader(self) -> DataLoader:
        """Without songs for validation there is a warning and no validation, rather than no training."""
        try:
            return super().val_dataloader()
        except DataError as error:
            warnings.warn(f"no validation: {error}", stacklevel=2)
            return []  # type: ignore[return-value]  # what Lightning takes for none

    def state_dict(self) -> dict[str, Any]:
        return {"epoch_begin": self._epoch_begin, "batches_done": self.batches_done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epoch_begin, self.batches_done = state_dict["epoch_begin"], state_dict["batches_done"]
        self._resumed = True
