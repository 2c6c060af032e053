"""Which files are songs."""

import io
import os
import sys

import pytest

from frame_transformer.errors import AudioError
from frame_transformer.files import whole
from frame_transformer.separation.records import RECORDS, Record
from frame_transformer.separation.songs import find_songs, spooled

needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="names are not bytes here")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*names):
    for name in names:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "w"):
            pass


def found(*sources):
    return [(str(song.source), song.folder) for song in find_songs(sources).songs]


def test_songs_of_a_folder_keep_their_folders_and_a_file_has_none():
    make("album/CD1/01.mp3", "album/CD2/01.mp3", "album/intro.wav", "album/cover.jpg", "album/notes.txt")
    assert found("album", "album/CD1/01.mp3") == [
        ("album/CD1/01.mp3", "CD1"),
        ("album/CD2/01.mp3", "CD2"),
        ("album/intro.wav", ""),
    ]
    assert find_songs(["album"]).left_out == {"not audio": 2}
    assert found("album/CD1/01.mp3") == [("album/CD1/01.mp3", "")]
    os.chdir("album")
    assert found(".") == [("CD1/01.mp3", "CD1"), ("CD2/01.mp3", "CD2"), ("intro.wav", "")]


def test_hidden_files_are_left_out_of_folders_but_not_when_named():
    make("a/._x.mp3", "a/.hidden/y.mp3", "a/x.mp3", "a/.DS_Store")
    songs = find_songs(["a"])
    assert [str(song.source) for song in songs.songs] == ["a/x.mp3"]
    assert songs.left_out == {"hidden": 1}
    assert found("a/._x.mp3") == [("a/._x.mp3", "")]


def test_linked_folders_are_searched_once_and_circles_end():
    make("a/deep/x.mp3", "elsewhere/y.mp3", "elsewhere/deep/z.mp3")
    os.symlink("..", "a/deep/up")
    os.symlink("deep", "a/again")
    os.symlink("../elsewhere", "a/more")
    os.symlink("nowhere.mp3", "a/broken.mp3")
    os.symlink("itself.mp3", "a/itself.mp3")
    songs = find_songs(["a"])
    assert [(str(song.source), song.folder) for song in songs.songs] == [
        ("a/deep/x.mp3", "deep"),
        ("a/more/deep/z.mp3", "more/deep"),
        ("a/more/y.mp3", "more"),
    ]
    assert songs.left_out == {"broken links": 2}
    assert found("a/**/x.mp3") == [("a/deep/x.mp3", "deep")]


def test_patterns_keep_folders_below_their_fixed_part():
    make("m/CD1/01.mp3", "m/CD2/01.mp3", "m/CD2/cover.jpg", "m/odd.xyz", "[x].mp3")
    assert found("m/*/01.mp3") == [("m/CD1/01.mp3", "CD1"), ("m/CD2/01.mp3", "CD2")]
    assert found("m/*") == [("m/CD1/01.mp3", "CD1"), ("m/CD2/01.mp3", "CD2")]
    assert found("m/*.xyz") == [("m/odd.xyz", "")]
    assert found("[x].mp3") == [("[x].mp3", "")]
    assert "no pattern that can be searched" in find_songs(["a**[y]"]).failures["a**[y]"]


def test_playlists_name_files_relative_to_them():
    make("lists/CD1/01.mp3", "other/02.mp3")
    with open("lists/a.m3u", "wb") as file:
        file.write(b"#EXTM3U\r\nCD1/01.mp3\r\n../other/02.mp3\r\nCaf\xe9.mp3\r\n")
    assert found("lists/a.m3u") == [
        ("lists/CD1/01.mp3", "CD1"),
        ("lists/../other/02.mp3", ""),
        (os.fsdecode(b"lists/Caf\xe9.mp3"), ""),
    ]


def test_stems_of_an_earlier_run_are_no_songs_unless_named():
    make("a.mp3", "separated/m/a/vocals.wav", "separated/mine.wav", "separated/m/a/instrumental.wav")
    outputs = {name: f"m/a/{name}.wav" for name in ("vocals", "instrumental")}
    record = Record("a.mp3", None, (), (), {}, outputs)
    with whole(f"separated/{RECORDS}/1-1.json") as file:
        file.write_text(record.to_json())
    songs = find_songs(["."])
    assert [str(song.source) for song in songs.songs] == ["a.mp3", "separated/mine.wav"]
    assert songs.left_out["stems of an earlier run"] == 2
    assert found("**/*.wav") == [("separated/mine.wav", "separated")]
    os.remove("separated/mine.wav")
    assert "but stems of an earlier run" in find_songs(["separated"]).failures["separated"]
    assert found("separated/m/a/vocals.wav") == [("separated/m/a/vocals.wav", "")]


def test_a_damaged_record_is_none():
    make(f"out/{RECORDS}/1-1.json", "out/a.wav")
    assert found("out") == [("out/a.wav", "")]


def test_what_cannot_be_used_does_not_stop_the_rest():
    make("a.mp3", "empty/cover.jpg")
    songs = find_songs(["", "empty", "https://x.org/a.mp3", "*.flac", "a.mp3", "n" * 300, "a\0b"])
    assert [str(song.source) for song in songs.songs] == ["a.mp3", "n" * 300, "a\0b"]
    assert set(songs.failures) == {"", "empty", "https://x.org/a.mp3", "*.flac"}
    assert "URLs are not read" in songs.failures["https://x.org/a.mp3"]


@needs_bytes
def test_names_that_are_no_text():
    name = os.fsdecode(b"a/Caf\xe9.mp3")
    make(name)
    assert found("a") == [(name, "")]


def test_standard_input_is_a_song_that_is_known_again():
    times = set()
    for content in (b"one", b"one", b"other"):
        with spooled(io.BytesIO(content)) as path:
            assert path.read_bytes() == content
            times.add(path.stat().st_mtime_ns)
        assert not path.parent.exists()
    assert len(times) == 2


def test_a_terminal_is_no_song():
    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    with pytest.raises(AudioError, match="is a terminal"), spooled(Terminal()):
        pass
