"""The data of a training: from folders to batches, split, resumed, and without leaks."""

from types import SimpleNamespace

import pytest
import torch

from frame_transformer.data import discover, scan
from frame_transformer.errors import DataError

pytest.importorskip("lightning")
from frame_transformer.training import Phase, TrainingData
from tests.data_pipeline.conftest import tone, write

PHASE = Phase(frames=17, batch_size=4)  # 16384 samples


def ready(step=0, epoch=0, rank=0, ranks=1, device="cpu", **options) -> TrainingData:
    """Set up, with a Trainer that is at that step."""
    options = {"phases": [PHASE], "workers": 0, "crops_per_epoch": 10, "validation_crops": 4} | options
    data = TrainingData(**options)
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(
        global_step=step, current_epoch=epoch, global_rank=rank, world_size=ranks, training=True, strategy=strategy
    )
    data.prepare_data()
    data.setup()
    return data


def seeds(data: TrainingData) -> list[list[int]]:
    return [batch["seed"].tolist() for batch in data.train_dataloader()]


def flat(batches: list[list[int]]) -> set[int]:
    return {seed for batch in batches for seed in batch}


def test_from_folders_to_batches(folders, tmp_path):
    names = {"instrumentals": "instrumentals", "vocals": "vocals", "songs": "stems", "unlabelled": "music"}
    data = ready(prepared=tmp_path, validation_share=0.0, **{role: [folders / name] for role, name in names.items()})
    assert [song.name for song in data.validation_songs] == ["validation/kept"]
    assert len(data.training_songs) == 6
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert len(batches) == 2
    assert batches[0]["mixture"].shape == (4, 2, 16_384)
    (validation,) = data.val_dataloader()
    assert validation["songs"] == ["validation/kept"] * 4
    assert validation["instrumental"].shape == (4, 2, 16_384)


def test_songs_that_left_the_folders_are_not_trained_on(folders, tmp_path):
    roles = {"vocals": folders / "vocals", "songs": folders / "stems"}
    every = ready(prepared=tmp_path, validation_share=0.0, **roles)
    fewer = ready(prepared=tmp_path, validation_share=0.0, songs=folders / "stems")
    assert {song.role for song in every.training_songs} == {"vocals", "songs"}
    assert {song.role for song in fewer.training_songs} == {"songs"}
    assert len(ready(prepared=tmp_path, validation_share=0.0).training_songs) == len(every.training_songs)


def test_pretraining(prepared):
    data = ready(prepared=prepared, task="pretrain")
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert set(batch) == {"mixture", "songs", "seed"}
    assert batch["mixture"].shape == (4, 2, 16_384)


def test_workers_mix_what_the_device_would(prepared):
    cpu, gpu = ready(prepared=prepared), ready(prepared=prepared, device="cuda")
    crops = next(iter(gpu.train_dataloader()))
    batch = next(iter(cpu.train_dataloader()))
    assert "mixture" not in crops
    assert cpu.on_after_batch_transfer(batch, 0) is batch
    assert torch.equal(gpu.on_after_batch_transfer(crops, 0)["mixture"], batch["mixture"])


def test_resumes_within_an_epoch_and_at_its_end(prepared):
    whole = seeds(ready(prepared=prepared, crops_per_epoch=16))
    assert len(whole) == 4
    for step in range(5):
        data = ready(step, prepared=prepared, crops_per_epoch=16)
        data.load_state_dict({"epoch_begin": 0})
        assert seeds(data) == whole[step:]
        assert len(data.train_dataloader()) == 4
    assert not flat(seeds(ready(4, 1, prepared=prepared, crops_per_epoch=16))) & flat(whole)


def test_processes_share_the_crops_of_an_epoch(prepared):
    alone = seeds(ready(prepared=prepared, crops_per_epoch=16))
    shared = [seeds(ready(prepared=prepared, crops_per_epoch=16, rank=rank, ranks=2)) for rank in range(2)]
    assert flat(alone) == flat(shared[0]) | flat(shared[1])
    assert not flat(shared[0]) & flat(shared[1])


def test_an_epoch_ends_with_its_phase_and_has_whole_steps(prepared):
    phases = [Phase(3, 17, 2, 2), Phase(None, 33, 3)]
    data = ready(prepared=prepared, crops_per_epoch=16, phases=phases)
    first, second, third = [], [], []
    for step, epoch, batches in ((0, 0, first), (2, 1, second), (3, 2, third)):
        data.trainer.global_step, data.trainer.current_epoch = step, epoch
        batches += [data.on_after_batch_transfer(batch, 0)["mixture"].shape for batch in data.train_dataloader()]
    assert first == [(2, 2, 16_384)] * 6
    assert second == [(2, 2, 16_384)] * 2
    assert third == [(3, 2, 32_768)] * 5


def test_too_few_crops_for_a_step(prepared):
    with pytest.raises(DataError, match=r"--data.crops_per_epoch: 3 crops are not enough for one step"):
        ready(prepared=prepared, crops_per_epoch=3).train_dataloader()


def test_index_leaves_bad_songs_out_with_a_count(folders, tmp_path, capsys):
    write(tmp_path / "more/quiet.wav", 0 * tone(300, 2))
    (tmp_path / "more/bad.mp3").write_text("no audio")
    roles = {"instrumentals": [folders / "instrumentals", tmp_path / "more"], "vocals": [folders / "vocals"]}
    scan(discover(roles), tmp_path / "index.json")
    data = ready(prepared=tmp_path / "out", index=tmp_path / "index.json", validation_share=0.0, **roles)
    said = capsys.readouterr().err
    assert "songs skipped: 2, the first: bad: " in said
    assert [song.name for song in data.training_songs] == ["tone1", "tone2", "voice1", "voice2"]
    assert said.count("no validation on crops") == 1
    assert data.val_dataloader() == []
