"""The command as a user runs it."""

import json
import shutil
import sys

import numpy as np
import pytest

from frame_transformer import cli
from frame_transformer.audio import decode


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["frame-transformer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
            raise SystemExit(0)
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return command


def test_separate_writes_stems_that_add_up(run, song, tiny_file, tmp_path):
    path = song("mein Lied é.wav", samples=60_000, bit_depth="32f")
    code, out, _ = run("separate", path, "-n", tiny_file, "--bit-depth", "32f", "--clip", "none")
    assert code == 0
    folder = tmp_path / "separated" / "tiny" / "mein Lied é"
    assert str(folder.relative_to(tmp_path) / "vocals.wav") in out
    vocals, instrumental = decode(folder / "vocals.wav")[0], decode(folder / "instrumental.wav")[0]
    assert np.abs(vocals + instrumental - decode(path)[0]).max() <= 1e-4


def test_existing_outputs_are_kept_unless_overwrite(run, song, tiny_file, tmp_path):
    arguments = ("separate", song(), "-n", tiny_file, "-o", tmp_path / "out", "--stems", "vocals")
    assert run(*arguments)[0] == 0
    stem = tmp_path / "out" / "tiny" / "song" / "vocals.wav"
    assert not (stem.parent / "instrumental.wav").exists()
    stem.write_bytes(b"mine")
    assert "already separated" in run(*arguments)[1]
    assert stem.read_bytes() == b"mine"
    assert run(*arguments, "--overwrite")[0] == 0
    assert decode(stem)[0].shape == (2, 30_000)


def test_a_bad_file_does_not_stop_the_batch(run, song, tiny_file, tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    shutil.move(song(), folder / "z.wav")
    (folder / "a.mp3").write_text("no sound in here " * 100)
    code, _out, err = run("separate", folder, "-n", tiny_file, "-o", tmp_path / "out", "--format", "flac")
    assert code == 1
    assert "a.mp3" in err
    assert "1 of 2 files failed" in err
    assert "Traceback" not in err
    assert (tmp_path / "out" / "tiny" / "z" / "vocals.flac").exists()
    assert not (tmp_path / "out" / "tiny" / "a").exists()


def test_playlists_and_patterns_and_json(run, song, tiny_file, tmp_path):
    song("one.wav")
    song("two.wav")
    (tmp_path / "list.m3u").write_text("#EXTM3U\none.wav\n\ntwo.wav\n", encoding="utf-8")
    _, out, _ = run("separate", "list.m3u", "*.wav", "-n", tiny_file, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["source"] for row in rows] == ["one.wav", "two.wav"]
    assert all(row["error"] is None and row["seconds"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.wav",), "no such file"),
        ((".",), "holds no audio files"),
        (("*.xyz",), "no file matches"),
        (("song.wav", "-n", "nobody"), "unknown model"),
        (("song.wav", "--format", "mp3", "--bit-depth", "24"), "bit depth"),
        (("song.wav", "--format", "tape"), "unknown audio format"),
        (("song.wav", "--filename", "{track}.{ext}"), "needs {stem}"),
        (("song.wav", "--filename", "../{stem}.{ext}"), "leaves the output folder"),
        (("song.wav", "--filename", "{singer}/{stem}"), "file name template"),
        (("song.wav", "--stems", "drums"), "stems must be of"),
    ],
)
def test_mistakes_are_one_line(run, tiny_file, arguments, message):
    model = () if "-n" in arguments else ("-n", tiny_file)
    code, _, err = run("separate", *arguments, *model)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_very_long_names_and_clipping(run, song, tiny_file, tmp_path):
    path = song("long " + "n" * 240 + ".wav")
    assert run("separate", path, "-n", tiny_file)[0] == 0
    assert len(list((tmp_path / "separated" / "tiny").iterdir())) == 1


def test_models_import_and_env_info(run, tiny_model, tmp_path):
    code, out, _ = run("models", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)} == {"default", "v1", "v2b"}
    (tmp_path / "bad.pth").write_text("no pickle")
    code, _, err = run("import", "bad.pth")
    assert code == 1
    assert err.startswith("error: bad.pth")
    assert "torch" in run("env-info")[1]


def test_import_of_an_original_checkpoint(run, tmp_path):
    import torch

    from frame_transformer import load_model
    from tests.models.test_golden import GOLDEN, golden

    _, state, x, expected = golden(GOLDEN[1])
    torch.save(state, tmp_path / "original.pth")
    assert run("import", "original.pth")[0] == 0
    model = load_model(tmp_path / "original.safetensors")
    assert (model(x) - expected).norm() / expected.norm() <= 1e-4
