"""Training data: from folders of songs to augmented batches, resumable at any step."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from ..data import (
    CropConfig,
    CropDataset,
    Index,
    MusicDataset,
    PreparedSong,
    Song,
    VoxAug,
    VoxAugConfig,
    crop_numbers,
    discover,
    prepare,
    prepared_folder,
    read_index,
    read_prepared,
    split_of,
    without_effects,
)
from ..data.catalogue import Role
from ..errors import DataError
from .schedule import Phase, check_phases, phase_at
from .terminal import counted, say

Folders = list[Path] | Path
Mix = Callable[[dict[str, Any]], dict[str, Any]]
VALIDATION_CROPS = CropConfig(no_vocals=0.0, only_vocals=0.0, same_song=1.0, active_share=1.0, backing=0.0)


class Batches(Sampler[list[int]]):
    """The batches of one epoch. Those before ``start`` count, but were used before an interruption."""

    def __init__(self, batches: Sequence[list[int]], start: int):
        self.batches, self.start = batches, start

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches[self.start :])


class TrainingData(lightning.LightningDataModule):
    """Crops of prepared songs in batches according to the phases, mixed and augmented on the training device.

    If that is the CPU, the workers mix and augment, in parallel to the training step.

    Batches are those of `VoxAug` ("mixture", "instrumental", "vocals", "songs", "seed"), or of `VoxAug.music` for
    pretraining ("mixture", "songs", "seed"). The crops of an epoch do not depend on the number of processes or
    workers. An epoch ends with its phase, so that all its batches have the same size. Needs a Trainer with
    ``use_distributed_sampler=False`` and ``reload_dataloaders_every_n_epochs=1``.
    """

    trainer: Any  # set whenever the methods below run

    def __init__(
        self,
        prepared: Path = Path("prepared"),
        instrumentals: Folders = [],
        vocals: Folders = [],
        songs: Folders = [],
        unlabelled: Folders = [],
        index: Path | None = None,
        task: Literal["separate", "pretrain"] = "separate",
        hop_length: int = 1024,
        phases: list[Phase] = [Phase()],  # noqa: B008 - frozen
        crops_per_epoch: int = 8_000,
        validation_crops: int = 64,
        validation_share: float = 0.05,
        workers: int = 1,
        seed: int = 0,
        crops: CropConfig = CropConfig(),  # noqa: B008 - frozen
        voxaug: VoxAugConfig = VoxAugConfig(),  # noqa: B008 - frozen
    ) -> None:
        """
        Args:
            prepared: folder of the decoded songs, filled from the folders below, and reused by later runs.
            instrumentals, vocals: folders of songs without voice, and of voices alone.
            songs: folders of songs with their stems. unlabelled: folders of any music, for pretraining.
            index: index written by `frame-transformer data scan`; unusable songs are left out, and near duplicates stay
                in the same split.
            task, hop_length: those of the stage and its network.
            phases: lengths of crops and sizes of batches, in order.
            crops_per_epoch: training crops of all processes between two validations.
            validation_crops: crops of validation songs. validation_share: share of songs kept for validation.
            workers: processes that read crops, for each training process.
            seed: seed of the crops and of the split into training and validation.
            crops: how crops are drawn. voxaug: how they are augmented and mixed.
        """
        super().__init__()
        check_phases(phases)
        self.prepared, self.index = prepared, index
        self.folders: dict[Role, list[Path]] = {
            "instrumentals": _list(instrumentals),
            "vocals": _list(vocals),
            "songs": _list(songs),
            "unlabelled": _list(unlabelled),
        }
        self.task, self.hop_length, self.phases = task, hop_length, phases
        self.crops_per_epoch, self.validation_crops = crops_per_epoch, validation_crops
        self.validation_share, self.workers, self.seed = validation_share, workers, seed
        self.crops, self.voxaug = crops, voxaug
        self.phase = phases[0]  # of the current epoch
        self._epoch_begin = 0  # optimizer step
        self._resumed = False  # whether _epoch_begin was read from a checkpoint

    def prepare_data(self) -> None:
        """Decodes new and changed songs of the folders, and reports how many were skipped."""
        if not any(self.folders.values()):
            return
        songs, left_out = self._usable_songs
        skipped = left_out + prepare(songs, self.prepared, counted("decoded")).skipped
        if skipped:
            name, reason = skipped[0]
            say(f"songs skipped: {len(skipped)}, the first: {name}: {reason}")

    def setup(self, stage: str | None = None) -> None:
        """Reads the prepared songs of the folders, or all if no folder is given, and splits them.

        Raises DataError if there are none.
        """
        songs = read_prepared(self.prepared)
        if any(self.folders.values()):
            folders = {prepared_folder(song, self.prepared) for song in self._usable_songs[0]}
            songs = [song for song in songs if song.folder in folders]
        splits = {song.folder: split_of(song.group, self.validation_share, self.seed) for song in songs}
        self.training_songs = [song for song in songs if splits[song.folder] == "train"]
        self.validation_songs = [song for song in songs if splits[song.folder] == "validation"]
        # The same crops in all phases.
        self.validation = VoxAug(self.phases[-1].samples(self.hop_length), without_effects(self.voxaug))
        self.validation_dataset = self._validation_dataset()

    def train_dataloader(self) -> DataLoader:
        step = self.trainer.global_step
        if not self._resumed:
            self._epoch_begin = step
        self._resumed = False
        self.phase = phase_at(self.phases, self._epoch_begin)
        self.training = VoxAug(self.phase.samples(self.hop_length), self.voxaug)
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        crops = crop_numbers(self.crops_per_epoch, self.trainer.current_epoch, rank, ranks)
        batches = self.phase.batches(crops, self._epoch_begin)
        if not batches:
            raise DataError(
                f"--data.crops_per_epoch: {self.crops_per_epoch} crops are not enough for one step; raise it"
            )
        return self._loader(
            self._dataset(self.training_songs, self.training.read_samples, self.crops),
            Batches(batches, (step - self._epoch_begin) * self.phase.accumulation),
            self._mix(self.training),
        )

    def val_dataloader(self) -> DataLoader | list:
        """The same crops every time, without augmentation; no loader if there are too few validation songs."""
        if self.validation_dataset is None:
            return []
        numbers = range(self.trainer.global_rank, self.validation_crops, self.trainer.world_size)
        size = self.phases[-1].batch_size
        batches = [list(numbers[begin : begin + size]) for begin in range(0, len(numbers), size)]
        return self._loader(self.validation_dataset, batches, self._mix(self.validation))

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        if self._on_cpu:
            return batch
        return self._mix(self.training if self.trainer.training else self.validation)(batch)

    @property
    def _on_cpu(self) -> bool:
        return self.trainer.strategy.root_device.type == "cpu"

    def _mix(self, voxaug: VoxAug) -> Mix:
        return voxaug.music if self.task == "pretrain" else voxaug

    def state_dict(self) -> dict[str, Any]:
        return {"epoch_begin": self._epoch_begin}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epoch_begin, self._resumed = state_dict["epoch_begin"], True

    @cached_property
    def _usable_songs(self) -> tuple[list[Song], list[tuple[str, str]]]:
        """The songs of the folders, and those that the index leaves out with the reasons."""
        index = read_index(self.index) if self.index else Index()
        return index.usable(discover(self.folders))

    def _validation_dataset(self) -> CropDataset | MusicDataset | None:
        try:
            return self._dataset(self.validation_songs, self.validation.samples, VALIDATION_CROPS)
        except DataError:
            say("no validation on crops: there are too few songs; a folder named validation holds songs for it")
            return None

    def _dataset(self, songs: list[PreparedSong], samples: int, crops: CropConfig) -> CropDataset | MusicDataset:
        kind = MusicDataset if self.task == "pretrain" else CropDataset
        return kind(songs, samples, crops, self.seed)

    def _loader(self, dataset: Dataset, batches: Sampler | list[list[int]], mix: Mix) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=partial(_collated, mix=mix) if self._on_cpu else None,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=4 if self.workers else None,
        )


def _collated(crops: list[dict[str, Any]], mix: Mix) -> dict[str, Any]:
    return mix(default_collate(crops))


def _list(folders: Folders) -> list[Path]:
    return [folders] if isinstance(folders, Path) else folders
