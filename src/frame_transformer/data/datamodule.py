"""The data of a training run as a LightningDataModule; needs the extra ``train``."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError
from .catalogue import Role, discover, split_of
from .crops import CropConfig, CropDataset, CropSampler, MusicDataset
from .index import Index, read_index
from .prepared import PreparedSong, PrepareReport, prepare, read_prepared
from .voxaug import VoxAug, VoxAugConfig, without_effects

Folders = list[Path] | Path
VALIDATION_CROPS = CropConfig(no_vocals=0.0, only_vocals=0.0, same_song=1.0, active_share=1.0, backing=0.0)


class TrainingData(lightning.LightningDataModule):
    """Folders of songs in, augmented batches out, on the device that trains.

    Batches are those of `VoxAug`; with ``task="pretrain"`` those of `VoxAug.music`. The crops of an epoch do not depend
    on the number of processes or workers. The Trainer needs ``use_distributed_sampler=False``, because the sampler here
    already shares the crops out, and ``reload_dataloaders_every_n_epochs=1`` if ``samples`` or ``batch_size`` grow.
    """

    def __init__(
        self,
        prepared: Path = Path("prepared"),
        instrumentals: Folders = [],
        vocals: Folders = [],
        songs: Folders = [],
        unlabelled: Folders = [],
        index: Path | None = None,
        task: Literal["separate", "pretrain"] = "separate",
        samples: int = 262_144,
        batch_size: int = 8,
        crops_per_epoch: int = 8_000,
        validation_crops: int = 64,
        validation_share: float = 0.05,
        workers: int = 1,
        seed: int = 0,
        crops: CropConfig = CropConfig(),  # noqa: B008 - frozen
        voxaug: VoxAugConfig = VoxAugConfig(),  # noqa: B008 - frozen
    ) -> None:
        """``samples``, ``batch_size`` and ``start`` (crops of the epoch already consumed by all processes) may be
        changed before `train_dataloader` is called again.

        Args:
            prepared: folder of the decoded songs, filled from the folders below, and reused by later runs.
            instrumentals, vocals: folders of songs without voice, and of voices alone.
            songs: folders of songs with their stems. unlabelled: folders of any music, for pretraining.
            index: what `frame-transformer data scan` wrote; leaves out songs that cannot be trained on, and keeps alike
                songs in one split.
            task: what the crops are for.
            samples: length of a crop, at 44.1 kHz. batch_size: of one process.
            crops_per_epoch: training crops, of all processes, between two validations.
            validation_crops: crops of validation songs. validation_share: share of songs kept for validation.
            workers: processes that read crops, for each training process.
            seed: of the crops, and of the split into training and validation.
            crops: what is drawn. voxaug: how it is augmented and mixed.
        """
        super().__init__()
        self.prepared = prepared
        self.folders: dict[Role, list[Path]] = {
            "instrumentals": _list(instrumentals),
            "vocals": _list(vocals),
            "songs": _list(songs),
            "unlabelled": _list(unlabelled),
        }
        self.index, self.task, self.samples, self.batch_size = index, task, samples, batch_size
        self.crops_per_epoch, self.validation_crops, self.validation_share = (
            crops_per_epoch,
            validation_crops,
            validation_share,
        )
        self.workers, self.seed, self.crops, self.voxaug = workers, seed, crops, voxaug
        self.start = 0
        self.report: PrepareReport | None = None

    def prepare_data(self) -> None:
        """Prepares the folders' songs; what was skipped is in ``report`` and in the log, counted."""
        if not any(self.folders.values()):
            return
        songs, left_out = self._index().usable(discover(self.folders))
        self.report = prepare(songs, self.prepared)
        self.report.skipped += left_out
        if self.report.skipped:
            name, reason = self.report.skipped[0]
            warnings.warn(f"songs skipped: {len(self.report.skipped)}, the first: {name}: {reason}", stacklevel=2)

    def setup(self, stage: str | None = None) -> None:
        """Reads the prepared songs and splits them. Raises DataError when there are none."""
        songs = read_prepared(self.prepared)
        splits = {song.folder: split_of(song.group, self.validation_share, self.seed) for song in songs}
        self.training_songs = [song for song in songs if splits[song.folder] == "train"]
        self.validation_songs = [song for song in songs if splits[song.folder] == "validation"]

    def train_dataloader(self) -> DataLoader:
        dataset = self._dataset(self.training_songs, VoxAug(self.samples, self.voxaug).read_samples, self.crops)
        epoch = self.trainer.current_epoch if self.trainer else 0
        return self._loader(
            dataset, CropSampler(self.crops_per_epoch, *self._rank_and_ranks(), epoch, self.start), drop_last=True
        )

    def val_dataloader(self) -> DataLoader:
        """The same crops every time, not augmented. Raises DataError when the validation split lacks a role."""
        try:
            dataset = self._dataset(self.validation_songs, self.samples, VALIDATION_CROPS)
        except DataError as error:
            advice = "put songs into a folder `validation`, or raise validation_share"
            raise DataError(f"{self.prepared}: validation split: {error}; {advice}") from error
        rank, ranks = self._rank_and_ranks()
        return self._loader(dataset, range(rank, self.validation_crops, ranks), drop_last=False)

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        training = self.trainer is None or self.trainer.training
        voxaug = VoxAug(self.samples, self.voxaug if training else without_effects(self.voxaug))
        return voxaug.music(batch) if self.task == "pretrain" else voxaug(batch)

    def _index(self) -> Index:
        return read_index(self.index) if self.index else Index()

    def _dataset(self, songs: list[PreparedSong], samples: int, crops: CropConfig) -> CropDataset | MusicDataset:
        kind = MusicDataset if self.task == "pretrain" else CropDataset
        return kind(songs, samples, crops, self.seed)

    def _loader(self, dataset: Dataset, sampler: Iterable[int], drop_last: bool) -> DataLoader:
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
            prefetch_factor=4 if self.workers else None,
        )

    def _rank_and_ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _list(folders: Folders) -> list[Path]:
    return [folders] if isinstance(folders, Path) else folders
