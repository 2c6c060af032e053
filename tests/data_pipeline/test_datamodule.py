"""The data module: from folders to batches, split, and without leaks."""

import pytest
import torch

from frame_transformer.data import DataError, discover, scan

pytest.importorskip("lightning")
from frame_transformer.data.datamodule import TrainingData

from .conftest import tone, write


def ready(**options) -> TrainingData:
    options = {"samples": 16_384, "batch_size": 4, "workers": 0, "crops_per_epoch": 10, "validation_crops": 4} | options
    data = TrainingData(**options)
    data.prepare_data()
    data.setup()
    return data


def test_from_folders_to_batches(folders, tmp_path):
    names = {"instrumentals": "instrumentals", "vocals": "vocals", "songs": "stems", "unlabelled": "music"}
    data = ready(prepared=tmp_path, validation_share=0.0, **{role: [folders / name] for role, name in names.items()})
    assert [song.name for song in data.validation_songs] == ["validation/kept"]
    assert len(data.training_songs) == 6
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert len(batches) == 2
    assert batches[0]["mixture"].shape == (4, 2, 16_384)
    assert batches[0]["presence"].shape == (4, 17)
    (validation,) = data.val_dataloader()
    assert validation["songs"] == ["validation/kept"] * 4
    assert validation["instrumental"].shape == (4, 2, 16_384)


def test_pretraining(prepared):
    data = ready(prepared=prepared, task="pretrain")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert set(batch) == {"mixture", "songs"}
    assert batch["mixture"].shape == (4, 2, 16_384)


def test_resume_within_an_epoch(prepared):
    data = ready(prepared=prepared, crops_per_epoch=16)
    whole = [batch["seed"] for batch in data.train_dataloader()]
    data.start = 8
    rest = [batch["seed"] for batch in data.train_dataloader()]
    assert torch.equal(torch.stack(rest), torch.stack(whole[2:]))


def test_the_trainer_moves_through_the_epochs(prepared):
    """Every epoch has other crops, validation is not augmented and always the same."""
    import lightning

    class Recorder(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.training_sums, self.validation_sums = [], []

        def training_step(self, batch, number):
            self.training_sums.append(float(batch["mixture"].square().sum()))
            return self.weight.sum()

        def validation_step(self, batch, number):
            self.validation_sums.append(float(batch["mixture"].square().sum()))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    recorder = Recorder()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(recorder, datamodule=TrainingData(prepared, samples=16_384, batch_size=4, workers=0, crops_per_epoch=8,
                                                  validation_crops=4))  # fmt: skip
    assert len(set(recorder.training_sums)) == 4
    assert len(recorder.validation_sums) == 2
    assert len(set(recorder.validation_sums)) == 1


def test_index_leaves_bad_songs_out_with_a_count(folders, tmp_path):
    write(tmp_path / "more/quiet.wav", 0 * tone(300, 2))
    (tmp_path / "more/bad.mp3").write_text("no audio")
    roles = {"instrumentals": [folders / "instrumentals", tmp_path / "more"], "vocals": [folders / "vocals"]}
    scan(discover(roles), tmp_path / "index.json")
    with pytest.warns(UserWarning, match="songs skipped: 2, the first: bad: "):
        data = ready(prepared=tmp_path / "out", index=tmp_path / "index.json", validation_share=0.0, **roles)
    assert [song.name for song in data.training_songs] == ["tone1", "tone2", "voice1", "voice2"]
    with pytest.raises(DataError, match=r"validation split: there are no instrumentals.* raise validation_share"):
        data.val_dataloader()


def test_no_vocals(folders, tmp_path):
    data = ready(prepared=tmp_path, instrumentals=[folders / "instrumentals"], validation_share=0.0)
    with pytest.raises(DataError, match="no vocals to train on"):
        data.train_dataloader()
