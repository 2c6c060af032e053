"""What a user can get wrong ends in one line that says what to do."""

import os

import pytest

from frame_transformer.errors import DataError
from frame_transformer.training.run import train
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
