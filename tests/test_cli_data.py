"""`frame-transformer data scan` and `prepare` as a user runs them."""

import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from frame_transformer.data import index, prepared, read_prepared

from .data_pipeline.conftest import RATE, bursts, tone, write
from .data_pipeline.test_index import tune


@pytest.fixture
def run(run):
    return partial(run, "data")


@pytest.fixture
def collection(tmp_path):
    """Instrumentals with a duplicate, a near duplicate, silence and a broken file; vocals; a pair; a MUSDB song."""
    root = tmp_path / "music"
    music = tune(1)
    write(root / "instrumentals/a.wav", music)
    write(root / "instrumentals/again.flac", music)
    write(root / "instrumentals/cut.wav", 0.5 * music[:, 2 * RATE :])
    write(root / "instrumentals/[quiet].wav", 0 * music[:, :RATE])
    (root / "instrumentals/broken.mp3").write_text("no audio " * 100)
    write(root / "vocals/singer.wav", bursts(1, 2))
    write(root / "pairs/duet/mixture.wav", tone(300, 2) + bursts(2, 2))
    write(root / "pairs/duet/instrumental.wav", tone(300, 2))
    for name in ("mixture", "drums", "bass", "other", "vocals"):
        write(root / "train/Band - Song" / f"{name}.wav", tone(100 + 50 * ord(name[0]), 2, 0.1))
    return root


def test_scan_finds_what_should_not_be_trained_on(run, collection):
    code, out, _ = run("scan", collection, "--no-detect-vocals", "--json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["files"], summary["read"]) == (12, 12)
    assert {role: row["songs"] for role, row in summary["roles"].items()} == {
        "instrumentals": 5,
        "vocals": 1,
        "songs": 2,
    }
    assert summary["roles"]["songs"]["seconds"] == pytest.approx(4)
    assert summary["silent"] == [str(collection / "instrumentals/[quiet].wav")]
    assert [failure["file"] for failure in summary["failures"]] == [str(collection / "instrumentals/broken.mp3")]
    files = {name: str(collection / "instrumentals" / name) for name in ("a.wav", "again.flac", "cut.wav")}
    assert summary["duplicates"] == [[files["a.wav"], files["again.flac"]]]
    assert [sorted(group) for group in summary["near_duplicates"]] == [sorted(files.values())]

    write(collection / "vocals/new.wav", bursts(3, 1))
    code, out, _ = run("scan", collection, "--no-detect-vocals")
    assert "13 files, 1 of them read by this run" in out
    assert "1 do not decode" in out
    assert "broken.mp3" in out
    assert "1 groups of exact duplicates" in out


def test_prepare_uses_the_index_and_counts_what_it_skips(run, collection, tmp_path):
    run("scan", collection, "--no-detect-vocals")
    code, out, _ = run("prepare", collection, "--index", "index.json")
    assert code == 0
    assert "5 songs prepared, 0 were up to date" in out
    assert "3 songs skipped" in out
    songs = {song.name: song for song in read_prepared(tmp_path / "prepared")}
    assert set(songs) == {"a", "cut", "singer", "duet", "train/Band - Song"}
    assert songs["a"].group == songs["cut"].group
    np.testing.assert_allclose(songs["duet"].crop("vocals", 0, 2 * RATE).T / 32768, bursts(2, 2), atol=2e-3)
    summary = json.loads(run("prepare", collection, "--index", "index.json", "--json")[1])
    assert (len(summary["prepared"]), len(summary["up_to_date"]), len(summary["skipped"])) == (0, 5, 3)


def test_roles_by_option(run, collection, tmp_path):
    plain = tmp_path / "plain"
    write(plain / "x.wav", tone(200, 1))
    assert run("prepare", "--instrumentals", plain, "--vocals", collection / "vocals", "-o", "out")[0] == 0
    assert [song.role for song in read_prepared(tmp_path / "out")] == ["instrumentals", "vocals"]


def test_scan_listens_for_vocals_with_the_model_named(run, collection, tiny_file):
    arguments = (
        "scan",
        "--instrumentals",
        collection / "instrumentals",
        "-n",
        tiny_file,
        "--threshold",
        -100,
        "--json",
    )
    summary = json.loads(run(*arguments)[1])
    heard = {suspect["file"].rsplit("/", 1)[1] for suspect in summary["with_vocals"]}
    assert heard == {"a.wav", "again.flac", "cut.wav"}
    assert all(-100 < suspect["level"] < 1 for suspect in summary["with_vocals"])
    assert json.loads(run(*arguments)[1])["read"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("scan",), "no folder given"),
        (("scan", "nowhere"), "no such folder"),
        (("prepare", "--songs", "music/vocals"), "holds no songs with stems"),
        (("prepare", "music", "--index", "none.json"), "no readable index"),
        (("scan", "--vocals", "music/vocals", "--index", "music/vocals/singer.wav/i.json"), "cannot be written"),
        (("prepare", "--vocals", "bad"), "none of the 1 songs can be used, the first because: bad/x.mp3"),
        (("scan", "--instrumentals", "music/instrumentals", "-n", "nobody"), "unknown model"),
    ],
)
def test_mistakes_are_one_line(run, collection, tmp_path, arguments, message):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.mp3").write_text("no audio")
    code, _, err = run(*arguments)
    assert code == 1
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_any_fault_is_that_of_one_song_and_names_need_not_be_text(run, collection, tmp_path, monkeypatch):
    odd = collection / "instrumentals" / os.fsdecode(b"Caf\xe9.wav")
    (collection / "instrumentals/cut.wav").rename(odd)

    def read(file):
        if file.path.name == "singer.wav":
            raise IndexError("deep inside")
        return plain(file)

    plain = index.read
    for module in (index, prepared):
        monkeypatch.setattr(module, "read", read)
    code, out, _ = run("scan", collection, "--no-detect-vocals", "--json", "--index", tmp_path / "index.json")
    assert code == 0
    failures = {Path(row["file"]).name: row["error"] for row in json.loads(out)["failures"]}
    assert set(failures) == {"broken.mp3", "singer.wav"}
    assert failures["singer.wav"].endswith("singer.wav: IndexError: deep inside (-v shows where)")
    code, out, _ = run("prepare", collection, "-o", tmp_path / "prepared", "--json")
    summary = json.loads(out)
    assert code == 0
    assert odd.stem in summary["prepared"]
    assert summary["skipped"][-1] == {"song": "singer", "reason": "singer: IndexError: deep inside (-v shows where)"}
    assert len(read_prepared(tmp_path / "prepared")) == len(summary["prepared"])
