"""What a user can get wrong ends in one line that says what to do."""

import os
import re
import sys

import pytest

from frame_transformer.errors import DataError, FrameTransformerError
from frame_transformer.training import datamodule
from frame_transformer.training.run import parse, train
from tests.data_pipeline.conftest import bursts, write

from .conftest import chord


def own(root, *roles: str) -> list[str]:
    """Folders of this test alone, in place of the session's."""
    roots = [f"--data.{role}={root / role if role in roles else []}" for role in ("instrumentals", "vocals", "songs")]
    return [*roots, f"--data.prepared={root / 'prepared'}", "--trainer.logger=false"]


@pytest.fixture
def folders(tmp_path):
    write(tmp_path / "instrumentals/chord.wav", chord(0, 3))
    write(tmp_path / "vocals/voice.wav", bursts(0, 3))
    return tmp_path


def test_missing_folder(arguments, folders):
    (folders / "vocals/voice.wav").unlink()
    (folders / "vocals").rmdir()
    with pytest.raises(DataError, match="vocals: no such folder"):
        train(arguments(folders / "run", *own(folders, "instrumentals", "vocals")))


def test_unreadable_folder(arguments, folders, monkeypatch):
    """Root may read everything, so the system's refusal is made by hand."""
    scandir = os.scandir

    def refuse(path):
        if str(path) == str(folders / "vocals"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"vocals: cannot be read \(Permission denied\); check its permissions"):
        train(arguments(folders / "run", *own(folders, "instrumentals", "vocals")))


def test_no_vocals(arguments, folders):
    with pytest.raises(DataError, match="there are no vocals to train on; add a folder of vocals") as stop:
        train(arguments(folders / "run", *own(folders, "instrumentals")))
    assert "\n" not in str(stop.value)


def test_mixed_sample_rates_are_resampled(arguments, folders):
    write(folders / "vocals/slow.wav", bursts(1, 3)[:, ::2], rate=22_050)
    cli = parse(arguments(folders / "run", *own(folders, "instrumentals", "vocals")))
    cli.datamodule.prepare_data()
    cli.datamodule.setup()
    assert [song.samples for song in cli.datamodule.training_songs] == pytest.approx([3 * 44_100] * 3, abs=2)


def test_a_file_deleted_after_the_scan_is_skipped_and_counted(arguments, folders, monkeypatch, capsys):
    gone = write(folders / "vocals/gone.wav", bursts(1, 3))
    discover = datamodule.discover

    def discover_then_delete(roles):
        songs = discover(roles)
        gone.unlink(missing_ok=True)
        return songs

    monkeypatch.setattr(datamodule, "discover", discover_then_delete)
    cli = parse(arguments(folders / "run", *own(folders, "instrumentals", "vocals")))
    cli.datamodule.prepare_data()
    assert re.search("songs skipped: 1, the first: gone: .*was deleted", capsys.readouterr().err)
    cli.datamodule.setup()
    assert len(cli.datamodule.training_songs) == 2


def test_unknown_configuration(run):
    code, out, error = run("train", "--config", "nothing")
    assert (code, out) == (1, "")
    assert error.startswith("error: --config nothing: neither a file nor one of adversarial, ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--trainer.max_steps=abc", "--trainer.max_steps: expected int, got abc"),
        ("--trainer.max_stepps=3", "unrecognized arguments: --trainer.max_stepps=3"),
        ("--model.network.widths=[a]", "--model.network.widths: expected int, got a"),
        ("--model.netwrk.heads=7", "unrecognized arguments: --model.netwrk.heads=7"),
        ("--model.network.heads=7", "256 features cannot be split into 7 heads"),
        ("--model.optimizer=Foo", "--model.optimizer: expected dot import path string: Foo"),
        ("--data.phases=[{until: 3}]", "--data.phases: the last phase must have until: null"),
        ("--max_minutes=long", "--max_minutes: expected float"),
        ("--validation_songs=nowhere", "nowhere: no such folder; give a folder of audio files"),
        ("--resume=nowhere", "nowhere: no such checkpoint; --resume takes auto, never or a file"),
        ("--model.initial_weights=nowhere", "unknown model 'nowhere'"),
    ],
)
def test_configuration_errors_are_one_line(argument, expected, tmp_path):
    with pytest.raises(FrameTransformerError) as stop:
        parse(["--config", "tiny", "--trainer.accelerator=cpu", f"--output={tmp_path}", argument])
    assert str(stop.value).startswith(expected)
    assert "\n" not in str(stop.value)


def test_weights_of_another_network(tiny_file, tmp_path):
    with pytest.raises(
        FrameTransformerError, match=rf"--model\.initial_weights {tiny_file}: its network is not that of"
    ):
        parse(["--config", "tiny", "--trainer.accelerator=cpu", f"--model.initial_weights={tiny_file}"])


def test_the_terminal_shows_progress_and_nothing_of_lightning(arguments, tmp_path, capfd):
    options = [item for item in arguments(tmp_path, "--data.songs=[]") if "progress_bar" not in item]
    train(options)
    out, error = capfd.readouterr()
    assert out == ""
    lines = [line for line in error.splitlines() if line]
    assert lines[0].startswith("no validation on crops: ")
    numbers = r"SDR vocals -?[\d.]+ dB, instrumental -?[\d.]+ dB \| [\d.]+ samples/s \| 0:00:00 left"
    assert re.fullmatch(rf"step 9 \| loss -?[\d.]+ \| {numbers}", lines[-1])
    assert all(line.startswith(("no validation", "step ")) for line in lines)


def test_without_the_extra(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("frame_transformer.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    code, _, error = run("train")
    assert code == 2
    assert error == "error: training needs lightning: install it with pip install 'frame-transformer[train]'\n"
