"""Where stems go, and what counts as made already."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from frame_transformer.checkpoints import save_model
from frame_transformer.errors import OptionError
from frame_transformer.models import create_model
from frame_transformer.separation import OutputOptions, SeparationOptions, Separator, find_songs, separate_files
from frame_transformer.separation.naming import fill_template, numbered, safe_name
from frame_transformer.separation.planning import plan_songs
from frame_transformer.separation.records import LocalFolder

OUTPUT = OutputOptions(Path("out"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plan(sources, output=OUTPUT, model="default", **options):
    songs = find_songs(sources).songs
    return plan_songs(songs, SeparationOptions((model,), **options), output, LocalFolder(output.folder))


def places(sources, output=OUTPUT):
    """The folders of the stems, or the errors."""
    planned = plan(sources, output)
    return [song.error or os.path.dirname(song.record.outputs["vocals"]).partition("/")[2] for song in planned]


def make(*names, content="x"):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)


def test_songs_of_a_batch_do_not_meet():
    make("m/CD1/01.mp3", "m/CD2/01.mp3", "m/a.wav", "m/a.mp3", "m/A.flac", "x/b.mp3", "y/b.mp3", "z/b.mp3")
    assert places(["m"]) == ["A", "CD1/01", "CD2/01", "a (2)", "a (3)"]
    # Songs that are named have no folder, until two of one name need it.
    assert places(["m/CD1/01.mp3", "m/CD2/01.mp3"]) == ["01", "CD2/01"]
    assert places(["x/b.mp3", "y/b.mp3", "z/b.mp3"]) == ["b", "y/b", "z/b"]
    flat = replace(OUTPUT, filename="{track}/{stem}.{ext}")
    planned = plan(["x/b.mp3", "y/b.mp3"], flat)
    assert [song.record.outputs["vocals"] for song in planned] == ["b/vocals.wav", "b (2)/vocals.wav"]
    planned = plan(["x/b.mp3", "y/b.mp3"], replace(OUTPUT, filename="{stem}.{ext}"))
    assert planned[0].error is None
    assert planned[1].error == "y/b.mp3: its stems would overwrite x/b.mp3; the file name template needs {track}"


def test_an_input_is_never_replaced():
    make("vocals.wav", "b.wav", "c.wav")
    (planned,) = plan(["vocals.wav"], replace(OUTPUT, folder=Path(), filename="{stem}.{ext}"))
    assert planned.error == "vocals.wav: its stems would overwrite vocals.wav; the file name template needs {track}"
    output = OutputOptions(Path(), "{track}.{ext}", ("vocals",))
    assert [song.record.outputs["vocals"] for song in plan(["b.wav", "c.wav"], output)] == ["b (2).wav", "c (2).wav"]
    os.symlink(".", "link")
    (planned,) = plan(["link/b.wav"], output)
    assert planned.record.outputs["vocals"] == "b (2).wav"


def separate(separator, sources, output=OUTPUT):
    """What became of each song: the folder of its stems, and whether it was skipped."""
    results = list(separate_files(separator, find_songs(sources).songs, output))
    assert [result.error for result in results] == [None] * len(results)
    return [(str(result.outputs["vocals"].parent.relative_to("out")), result.skipped) for result in results]


def test_only_the_same_request_is_skipped(tiny_model, song):
    song("a.wav", samples=2000)
    separator = Separator(tiny_model)
    assert separate(separator, ["a.wav"]) == [("V1/a", False)]
    assert separate(separator, ["a.wav"]) == [("V1/a", True)]
    assert separate(separator, ["a.wav"], replace(OUTPUT, overwrite=True)) == [("V1/a", False)]
    # Other options, and their stems do not take the place of others of the format.
    assert separate(Separator(tiny_model, overlap=0.5), ["a.wav"]) == [("V1/a", False)]
    assert separate(separator, ["a.wav"]) == [("V1/a", False)]
    assert separate(separator, ["a.wav"], replace(OUTPUT, audio_format="flac")) == [("V1/a", False)]
    assert separate(separator, ["a.wav"]) == [("V1/a", True)]
    # A song that was replaced, and a stem that is missing.
    song("a.wav", samples=2001)
    assert separate(separator, ["a.wav"]) == [("V1/a", False)]
    Path("out/V1/a/vocals.wav").unlink()
    assert separate(separator, ["a.wav"]) == [("V1/a", False)]
    # What no record speaks of was not made by this request.
    shutil.rmtree("out/.frame-transformer")
    assert separate(separator, ["a.wav"]) == [("V1/a", False)]


def test_a_song_of_the_same_name_gets_a_place_of_its_own(tiny_model, song):
    os.makedirs("x")
    os.makedirs("y")
    song("x/a.wav", samples=2000)
    song("y/a.wav", samples=3000)
    separator = Separator(tiny_model)
    assert separate(separator, ["x/a.wav"]) == [("V1/a", False)]
    assert separate(separator, ["y/a.wav"]) == [("V1/y/a", False)]
    assert separate(separator, ["y/a.wav", "x/a.wav"]) == [("V1/y/a", True), ("V1/a", True)]
    # A song that was moved is the same song.
    os.rename("x/a.wav", "a.wav")
    assert separate(separator, ["a.wav"]) == [("V1/a", True)]
    # Where the stems were removed, their place is free, and not before.
    Path("out/V1/a/vocals.wav").unlink()
    assert separate(separator, ["y/a.wav"]) == [("V1/y/a", True)]
    shutil.rmtree("out/V1/a")
    assert separate(separator, ["y/a.wav"]) == [("V1/a", False)]


def test_models_of_one_name_do_not_meet_and_a_retrained_one_replaces_itself(tiny_model, song):
    song("a.wav", samples=2000)
    other = create_model(tiny_model.config).eval()
    for number, model in enumerate((tiny_model, other)):
        os.makedirs(f"run{number}")
        save_model(model, f"run{number}/model.safetensors")
    first, second = Separator("run0/model.safetensors"), Separator("run1/model.safetensors")
    assert separate(first, ["a.wav"]) == [("model/a", False)]
    assert separate(second, ["a.wav"]) == [("model (2)/a", False)]
    assert separate(first, ["a.wav"]) == [("model/a", True)]
    assert separate(second, ["a.wav"]) == [("model (2)/a", True)]
    stem = Path("out/model/a/vocals.wav")
    before = stem.read_bytes()
    torch.manual_seed(1)
    save_model(create_model(tiny_model.config), "run0/model.safetensors")
    again = Separator(Path("run0/model.safetensors").absolute())
    assert separate(again, ["a.wav"]) == [("model/a", False)]
    assert stem.read_bytes() != before


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("CON", "_CON"),
        ("com1.live", "_com1.live"),
        ("a: b?", "a_ b_"),
        ("etc.", "etc_"),
        ("end  ", "end__"),
        ("...", "___"),
        ("Björk – Jóga", "Björk – Jóga"),
        ("console", "console"),
    ],
)
def test_names_on_windows(name, safe):
    assert safe_name(name, windows=True) == safe


def test_names_elsewhere():
    assert safe_name("a: b? ", windows=False) == "a: b? "
    assert safe_name("..", windows=False) == "__"
    assert len(os.fsencode(safe_name("ŋ" * 150))) == 200
    assert len(os.fsencode(numbered("ŋ" * 150, 12))) <= 200
    assert fill_template("{model}/{folder}/{track}/{stem}.{ext}", "m", "", "..", "v", "wav") == "m/__/v.wav"
    assert fill_template("{folder}/{track}.{ext}", "m", "a/b", "t", "v", "wav") == "a/b/t.wav"


def test_long_names_that_are_cut_to_the_same_do_not_meet():
    names = ["n" * 230 + "1.wav", "n" * 230 + "2.wav"]
    make(*names)
    assert places(names) == ["n" * 200, "n" * 190 + " (2)"]


@pytest.mark.parametrize(
    "template",
    ["{track.foo}/{stem}", "{track[0]}/{stem}", "{track!r}/{stem}", "{track:>9}/{stem}", "{stem}{", "{}{stem}",
     "a\0{stem}", "../{stem}", "{folder}/../{stem}", "/tmp/{stem}", "{singer}/{stem}"],
)  # fmt: skip
def test_templates_that_cannot_be(template):
    with pytest.raises(OptionError, match="file name template") as error:
        replace(OUTPUT, filename=template)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(sys.platform != "linux", reason="names are not bytes here")
def test_names_that_are_no_text(tiny_model, song):
    name = os.fsdecode(b"Caf\xe9")
    os.rename(song("a.wav", samples=2000), f"{name}.wav")
    separator = Separator(tiny_model)
    for skipped in (False, True):
        assert separate(separator, ["."]) == [(f"V1/{name}", skipped)]
    assert Path("out/V1", name, "vocals.wav").is_file()
