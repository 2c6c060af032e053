"""The command as a user runs it."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import rich.progress
import torch
from PIL import Image

from frame_transformer import separation
from frame_transformer.audio import decode, probe
from frame_transformer.cli.aliases import translate


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
        (("song.wav", "--format", "mp3", "--bit-depth", "24"), "bit depth"),
        (("song.wav", "--format", "tape"), "unknown audio format"),
        (("song.wav", "--filename", "{track}.{ext}"), "needs {stem}"),
        (("song.wav", "--filename", "../{stem}.{ext}"), "leaves the output folder"),
        (("song.wav", "--filename", "{singer}/{stem}"), "file name template"),
        (("song.wav", "--stems", "drums"), "stems must be of"),
        (("song.wav", "--images", "--filename", "{stem}.wav"), "needs {stem} and {ext}"),
        (("song.wav", "--weights", "1,2"), "2 weights for 1 models"),
        (("song.wav", "--weights", "much"), "numbers separated by commas"),
        (("song.wav", "--bitrate", "high"), "kbit/s"),
        (("song.wav", "--dtype", "int4"), "unknown dtype"),
        (("song.wav", "--tta", "--context", "0"), "needs a context"),
        (("song.wav", "--device", "abacus"), "not available here"),
        (("song.wav", "--segment", "7"), "--window FRAMES"),
        (("song.wav", "--two-stems=drums"), "vocals and instrumental"),
        (("song.wav", "--shifts"), "needs a value"),
    ],
)
def test_wrong_usage_is_one_line(run, song, tiny_file, arguments, message):
    song()
    code, _, err = run("separate", "-n", tiny_file, *arguments)
    assert code == 2
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
    from frame_transformer import load_model
    from tests.checkpoints.test_research import GOLDEN, golden

    _, state, x, expected = golden(GOLDEN[1])
    torch.save(state, tmp_path / "original.pth")
    assert run("import", "original.pth")[0] == 0
    model = load_model(tmp_path / "original.safetensors")
    assert (model(x) - expected).norm() / expected.norm() <= 1e-4


def test_flags_of_other_separators(run, song, tiny_file, tmp_path):
    song()
    foreign = (
        "--name",
        tiny_file,
        "--out",
        "out",
        "--two-stems",
        "vocals",
        "--mp3",
        "--mp3-bitrate",
        "128",
        "--shifts=1",
    )
    code, out, _ = run("separate", "song.wav", *foreign)
    assert code == 0
    assert out.splitlines() == ["out/tiny/song/vocals.mp3", "out/tiny/song/instrumental.mp3"]
    foreign = ("--model_filename", tiny_file, "--output_dir=out", "--output_format", "FLAC", "--single_stem", "Vocals")
    assert run("separate", "song.wav", *foreign)[1].splitlines() == ["out/tiny/song/vocals.flac"]


def test_what_follows_two_dashes_is_a_name():
    assert translate(["--flac", "--", "--mp3"]) == ["--format", "flac", "--", "--mp3"]
    assert translate(["--shifts", "5"]) == ["--tta"]


def test_every_option_reaches_the_separator(run, song, tiny_file, monkeypatch):
    seen = {}

    class Spy(separation.Separator):
        def __init__(self, options, **more):
            seen.update(vars(options))
            super().__init__(options, **more)

    monkeypatch.setattr(separation, "Separator", Spy)
    models = ("-n", tiny_file, "-n", tiny_file, "--weights", "2,1")
    options = ("--tta", "--batch-size", "3", "--dtype", "bfloat16", "--smoothing", "0.1", "--overlap", "0.5")
    assert run("separate", song(samples=3000), *models, *options, "--stream", "0", "--close-gaps")[0] == 0
    assert seen == {
        "models": (str(tiny_file),) * 2, "weights": (2.0, 1.0), "tta": True, "batch_size": 3,
        "dtype": "bfloat16", "smoothing": 0.1, "overlap": 0.5, "window": None, "context": None, "device": "auto",
        "ensemble": "mean", "stream": 0, "fill_gaps": False,
    }  # fmt: skip


def test_tags_and_cover_go_to_the_stems(run, song, tiny_file, cover):
    song("song.mp3", tags={"title": "Lied", "artist": "Anna"}, cover=cover)
    assert run("separate", "song.mp3", "-n", tiny_file, "--format", "flac")[0] == 0
    for stem in ("vocals", "instrumental"):
        info = probe(f"separated/tiny/song/{stem}.flac")
        assert info.tags == {"title": "Lied", "artist": "Anna"}
        assert info.cover == cover


def test_images_and_video(run, song, tiny_file, cover):
    song("song.mp3", tags={"title": "Lied"}, cover=cover)
    arguments = ("separate", "song.mp3", "-n", tiny_file, "--stems", "vocals", "--images", "--video", "--json")
    code, out, _ = run(*arguments)
    assert code == 0
    outputs = json.loads(out)["outputs"]
    assert list(outputs) == ["vocals", "mixture.png", "vocals.png", "instrumental.png", "mask.png", "video"]
    sizes = {Image.open(outputs[name]).size for name in outputs if name.endswith(".png")}
    assert len(sizes) == 1
    video = probe(outputs["video"])
    assert (video.tags["title"], video.channels) == ("Lied", 2)
    assert decode(outputs["video"])[0].shape[1] >= 30_000
    assert json.loads(run(*arguments)[1])["skipped"]


def test_several_at_once_give_what_one_by_one_gives(run, song, tiny_file, tmp_path):
    (tmp_path / "songs").mkdir()
    for number in range(4):
        song(f"songs/{number}.wav", samples=9_000 + number)
    (tmp_path / "songs" / "bad.wav").write_text("no sound")
    alone = run("separate", "songs", "-n", tiny_file, "-o", "alone", "--json")
    together = run("separate", "songs", "-n", tiny_file, "-o", "together", "--json", "-j", "3")
    assert (alone[0], together[0]) == (1, 1)
    rows = [json.loads(line) for line in together[1].splitlines()]
    good = {row["source"]: row["error"] is None for row in rows}
    assert good == {f"songs/{number}.wav": True for number in range(4)} | {"songs/bad.wav": False}
    for number in range(4):
        for stem in ("vocals", "instrumental"):
            one, other = (decode(f"{folder}/tiny/{number}/{stem}.wav")[0] for folder in ("alone", "together"))
            assert np.abs(one - other).max() <= 2 / 2**15


def test_the_total_speed_stands_at_the_end(run, song, tiny_file):
    song("a.wav", samples=3000)
    song("b.wav", samples=3000)
    assert "2 files: 0.1 s in" in run("separate", "a.wav", "b.wav", "-n", tiny_file)[2].splitlines()[-1]


def test_a_bar_counts_the_files_where_there_are_several(run, song, tiny_file, tmp_path, monkeypatch):
    bars = []

    class Watched(rich.progress.Progress):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            bars.append(self)

    monkeypatch.setattr(rich.progress, "Progress", Watched)
    monkeypatch.setenv("FORCE_COLOR", "1")  # stands for a terminal
    (tmp_path / "bad.wav").write_text("no sound")
    one, two = song("one.wav", samples=3000), song("two.wav", samples=3000)
    assert run("separate", one, "-n", tiny_file)[0] == 0
    _, _, err = run("separate", one, "bad.wav", two, "-n", tiny_file)
    assert "all files" in err
    # The bars of single files are gone; skipped and failed files count as done.
    assert [[(bar.description, bar.completed, bar.total, bar.visible) for bar in shown.tasks] for shown in bars] == [
        [("all files", 1, 1, False)],
        [("all files", 3, 3, True)],
    ]


def test_a_model_is_downloaded_imported_and_used(run, song, monkeypatch, tmp_path):
    from frame_transformer import hub
    from frame_transformer.hub import mega
    from tests.checkpoints.test_research import GOLDEN, golden
    from tests.hub.mega_server import Service

    monkeypatch.setenv("FRAME_TRANSFORMER_CACHE", str(tmp_path / "cache"))
    buffer = io.BytesIO()
    torch.save(golden(GOLDEN[1])[1], buffer)
    with Service() as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        monkeypatch.setitem(hub.CARDS, "tiny", service.offer(buffer.getvalue()))
        monkeypatch.setattr(hub.download, "__kwdefaults__", {"api": service.url})
        arguments = ("separate", song(samples=3000), "-n", "tiny", "--window", "20", "--context", "0")
        assert run(*arguments)[0] == 0
        service.shutdown()
    assert mega.matches(tmp_path / "cache" / "tiny.pth", hub.CARDS["tiny"].url)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    assert json.loads((tmp_path / "cache" / "tiny.pth.json").read_text())["sha256"] == digest


def command(*arguments, **variables):
    """The command in a process of its own."""
    line = [sys.executable, "-c", "from frame_transformer.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(line, env=environment, capture_output=True, text=True)


def test_help_names_exit_codes_and_obeys_no_color():
    plain = command("separate", "--help", NO_COLOR="1", FORCE_COLOR="1", COLUMNS="200")
    assert "130 stopped by Ctrl-C" in plain.stdout
    assert "\x1b[3" not in plain.stdout
    assert "\x1b[3" in command("separate", "--help", FORCE_COLOR="1", NO_COLOR="").stdout


def test_the_shell_completes_options_and_models():
    words = {"_FRAME_TRANSFORMER_COMPLETE": "complete_bash", "_TYPER_COMPLETE_ARGS": "frame-transformer separate --ov"}
    line = [sys.executable, "-c", "from frame_transformer.cli import app; app(prog_name='frame-transformer')"]

    def complete(text, place):
        variables = {"_FRAME_TRANSFORMER_COMPLETE": "complete_bash", "COMP_WORDS": text, "COMP_CWORD": str(place)}
        return subprocess.run(line, env=os.environ | words | variables, capture_output=True, text=True).stdout.split()

    assert complete("frame-transformer separate --ov", 2) == ["--overlap", "--overwrite"]
    assert complete("frame-transformer separate -n v", 3) == ["v1", "v2b"]


def test_usage_that_does_not_parse_is_exit_code_2(run):
    assert run("separate")[0] == 2
    assert run("separate", "a.wav", "--jobs", "0")[0] == 2
