"""The learning rate over steps and over time, the clock, and the end of a training."""

import csv
import json
import shutil
from itertools import pairwise

import pytest
import torch

from frame_transformer.errors import TrainingError
from frame_transformer.training import Phase, Schedule, schedule
from frame_transformer.training.checkpoint import checkpoints
from frame_transformer.training.run import train
from frame_transformer.training.schedule import check_phases, phase_at


def learning_rates(output) -> list[float]:
    """Over their peak, step by step."""
    with open(output / "logs/csv/metrics.csv") as file:
        return [float(row["train/learning_rate_factor"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.fixture
def clock(monkeypatch):
    """A minute passes between any two looks at the clock."""
    minutes = iter(range(1, 10**6))
    monkeypatch.setattr(schedule.time, "monotonic", lambda: 60.0 * next(minutes))


def test_rate_grows_linearly_and_falls_with_a_power_of_what_is_left():
    rate = Schedule(warmup_steps=4, decay_power=2.0, final_learning_rate=0.1)
    assert [rate.factor(step, 1.0) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert rate.factor(9, 0.5) == pytest.approx(0.1 + 0.9 * 0.25)
    assert rate.factor(9, 0.0) == pytest.approx(0.1)


def test_rate_falls_with_the_steps(arguments, tmp_path):
    options = ("--trainer.max_steps=4", "--schedule.warmup_steps=2", "--schedule.final_learning_rate=0")
    train(arguments(tmp_path, *options, "--model.optimizer.lr=0.02", "--trainer.log_every_n_steps=1"))
    assert learning_rates(tmp_path) == pytest.approx([0.5, 0.75, 0.5, 0.25])
    (state,) = torch.load(checkpoints(tmp_path)[0], weights_only=True)["optimizer_states"]
    assert state["param_groups"][0]["lr"] == pytest.approx(0.02 * 0.25)  # what the last step was taken with


def test_training_ends_with_its_minutes_and_goes_on_with_more(arguments, tmp_path, clock):
    options = ("--trainer.max_steps=-1", "--schedule.warmup_steps=0", "--schedule.decay_power=2",
               "--schedule.final_learning_rate=0", "--trainer.log_every_n_steps=1")  # fmt: skip
    train(arguments(tmp_path, *options, "--max_minutes=8"))
    first = learning_rates(tmp_path)
    saved = torch.load(checkpoints(tmp_path)[0], weights_only=True)
    spent = saved["callbacks"]["Schedule"]["seconds"] / 60
    assert 8 <= spent < 10
    assert saved["global_step"] == len(first)
    assert first[0] == 1
    assert all(later < earlier for earlier, later in pairwise(first))
    assert first[-1] == pytest.approx((1 - (spent - 2) / 8) ** 2, abs=0.15)

    train(arguments(tmp_path, *options, "--max_minutes=8", "--resume=auto"))
    assert torch.load(checkpoints(tmp_path)[0], weights_only=True)["global_step"] == saved["global_step"]

    train(arguments(tmp_path, *options, "--max_minutes=16", "--resume=auto"))
    again = torch.load(checkpoints(tmp_path)[0], weights_only=True)
    assert again["global_step"] > saved["global_step"]
    assert 16 <= again["callbacks"]["Schedule"]["seconds"] / 60 < 18


def test_minutes_spent_before_count(arguments, tmp_path, clock):
    options = ("--trainer.max_steps=-1", "--schedule.warmup_steps=0", "--schedule.decay_power=1",
               "--schedule.final_learning_rate=0", "--trainer.log_every_n_steps=1")  # fmt: skip
    train(arguments(tmp_path, *options, "--max_minutes=100", "--schedule.spent_minutes=90"))
    rates = learning_rates(tmp_path)
    assert rates[0] == pytest.approx(0.1)
    assert 2 <= len(rates) <= 10


def test_the_clock_stands_still_when_it_is_paused(monkeypatch):
    now = iter((0.0, 100.0, 900.0, 930.0))
    monkeypatch.setattr(schedule.time, "monotonic", lambda: next(now))
    clock = Schedule()
    clock.go_on()
    clock.pause()
    clock.go_on()
    clock.pause()
    assert clock.spent == 130


def test_validation_on_songs_writes_lines(arguments, tmp_path, music, capsys):
    songs = tmp_path / "songs"
    for place in ("mixes/one", "mixes/two", "alone"):
        shutil.copytree(music / "songs/validation/kept", songs / place)
    options = (f"--validation_songs={songs}", "--validate_every_minutes=0", "--trainer.max_steps=3")
    train(arguments(tmp_path / "run", *options))
    lines = [json.loads(line) for line in (tmp_path / "run/validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert set(line) == {"step", "minutes", "loss", "mixes", "alone"}
        assert line["mixes"] == line["alone"]
        assert set(line["alone"]) == {"vocals", "instrumental"}
    assert json.dumps(lines[0]) in capsys.readouterr().err


def test_phases():
    phases = [Phase(10, frames=8), Phase(None, frames=16)]
    assert [phase_at(phases, step).frames for step in (0, 9, 10, 99)] == [8, 8, 16, 16]
    assert phases[1].samples(256) == 15 * 256
    two_steps = [[100, 101], [102, 103], [104, 105], [106, 107]]
    assert Phase(None, 8, 2, 2).batches(range(100, 111), 1) == two_steps  # the crops that are left make no whole step
    assert Phase(3, 8, 2, 2).batches(range(100, 120), 1) == two_steps  # the phase ends
    for wrong in ([], [Phase(3)], [Phase(3), Phase(2), Phase()], [Phase(None), Phase(None)], [Phase(frames=0)]):
        with pytest.raises(TrainingError, match=r"--data\.phases"):
            check_phases(wrong)
