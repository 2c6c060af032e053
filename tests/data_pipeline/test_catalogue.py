"""Folders become songs, and every song has one split."""

import av
import numpy as np
import pytest

from frame_transformer.data import discover, gather, roles_in, split_of
from frame_transformer.data.catalogue import STEM_STREAMS, AudioFile
from frame_transformer.data.reading import read
from frame_transformer.errors import DataError

from .conftest import RATE, tone


def test_roles_and_layouts(folders):
    assert roles_in(folders) == {
        "instrumentals": [folders / "instrumentals"],
        "songs": [folders / "stems"],
        "unlabelled": [folders / "music"],
        "vocals": [folders / "vocals"],
    }
    songs = discover(roles_in(folders))
    assert [(song.role, song.name, sorted(song.stems)) for song in songs] == [
        ("instrumentals", "tone1", ["instrumental"]),
        ("instrumentals", "tone2", ["instrumental"]),
        ("vocals", "voice1", ["vocals"]),
        ("vocals", "voice2", ["vocals"]),
        ("songs", "duet", ["instrumental", "vocals"]),
        ("songs", "validation/kept", ["instrumental", "vocals"]),
        ("unlabelled", "any", ["music"]),
    ]
    assert roles_in(folders / "music") == {"unlabelled": [folders / "music"]}
    assert roles_in(folders / "stems") == {"songs": [folders / "stems"]}


def test_roles_inside_a_validation_folder(tmp_path):
    for path in (
        "stems/a/vocals",
        "stems/a/mixture",
        "validation/b/vocals",
        "validation/b/mixture",
        "validation/music/c",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{path}.flac").touch()
    songs = discover(roles_in(tmp_path))
    assert [(song.role, song.name) for song in songs] == [
        ("songs", "a"),
        ("songs", "validation/b"),
        ("unlabelled", "validation/music/c"),
    ]


def test_linked_folders_are_followed_once(tmp_path):
    (tmp_path / "disk/band").mkdir(parents=True)
    (tmp_path / "disk/band/song.flac").touch()
    data = tmp_path / "data"
    data.mkdir()
    (data / "music").symlink_to(tmp_path / "disk")
    (data / "again").symlink_to(tmp_path / "disk/band")
    (tmp_path / "disk/band/up").symlink_to(tmp_path / "disk")
    assert [song.name for song in discover({"unlabelled": [data]})] == ["again/song"]
    assert [song.name for song in discover({"unlabelled": [data / "music"]})] == ["band/song"]


def test_folder_without_audio(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no audio files"):
        roles_in(tmp_path)


def test_musdb_hq_and_pairs(tmp_path):
    for name in ("mixture", "drums", "bass", "other", "vocals"):
        (tmp_path / "hq/train/A").mkdir(parents=True, exist_ok=True)
        (tmp_path / "hq/train/A" / f"{name}.wav").touch()
    (tmp_path / "hq/test/pair").mkdir(parents=True)
    for name in ("mixture", "instrumental"):
        (tmp_path / "hq/test/pair" / f"{name}.mp3").touch()
    (tmp_path / "hq/train/alone").mkdir()
    (tmp_path / "hq/train/alone/drums.wav").touch()
    pair, song = sorted(discover({"songs": [tmp_path / "hq"]}), key=lambda song: song.name)
    assert [file.path.stem for file in song.stems["instrumental"]] == ["drums", "bass", "other"]
    assert set(song.stems) == {"instrumental", "vocals"}
    assert set(pair.stems) == {"mixture", "instrumental"}
    assert (split_of(song.group, 1.0), split_of(pair.group, 0.0)) == ("train", "validation")
    # The folder's own name tells the split too.
    assert [song.name for song in discover({"songs": [tmp_path / "hq/test"]})] == ["test/pair"]


def test_every_layout_in_one_collection(tmp_path):
    """MUSDB18 and MUSDB18-HQ with their splits, a folder with all six stems, and pairs."""
    files = [f"hq/{split}/B/{stem}.wav" for split in ("train", "test") for stem in STEM_STREAMS]
    files += [f"all/six/{stem}.wav" for stem in (*STEM_STREAMS, "instrumental")]
    files += ["musdb18/train/A.stem.mp4", "musdb18/test/A.stem.mp4", "pairs/p/mixture.mp3", "pairs/p/instrumental.flac"]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    songs = gather([tmp_path / name for name in ("hq", "musdb18", "all")], {"songs": [tmp_path / "pairs"]})
    stems = {
        song.name: {stem: [file.path.name for file in found] for stem, found in song.stems.items()} for song in songs
    }
    parts = {"instrumental": ["drums.wav", "bass.wav", "other.wav"], "vocals": ["vocals.wav"]}
    packed = {"instrumental": 3 * ["A.stem.mp4"], "vocals": ["A.stem.mp4"]}
    assert stems == {
        "train/B": parts,
        "test/B": parts,
        "train/A": packed,
        "test/A": packed,
        "six": {"instrumental": ["instrumental.wav"], "vocals": ["vocals.wav"]},
        "p": {"instrumental": ["instrumental.flac"], "mixture": ["mixture.mp3"]},
    }
    assert {song.name for song in songs if split_of(song.group, 0.0) == "validation"} == {"test/A", "test/B"}
    assert len(gather([tmp_path / "hq", tmp_path / "hq"], {})) == 2


@pytest.mark.parametrize("role", ["songs", "vocals"])
def test_folder_without_songs_of_its_role(tmp_path, role):
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / ("drums.wav" if role == "songs" else "notes.txt")).touch()
    with pytest.raises(DataError, match=r"loose: holds no (songs with stems; a song is|audio files)"):
        discover({role: [tmp_path / "loose"]})


def test_stem_mp4_streams(tmp_path):
    """Five AAC streams, one tone each: every stem is read from its own stream."""
    path = tmp_path / "song.stem.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=RATE, layout="stereo") for _ in range(5)]
        for number, stream in enumerate(streams):
            frame = av.AudioFrame.from_ndarray(tone(300 * (number + 1), 1.0), format="fltp", layout="stereo")
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    (song,) = discover({"songs": [tmp_path]})
    assert [file.stream for file in song.stems["instrumental"]] == [1, 2, 3]
    assert song.stems["vocals"] == (AudioFile(path, 4),)
    for number in range(5):
        sound = read(AudioFile(path, number))[0]
        loudest = np.argmax(np.abs(np.fft.rfft(sound))) * RATE / len(sound)
        assert loudest == pytest.approx(300 * (number + 1), abs=3)


def test_split_is_stable_and_of_the_asked_size():
    splits = [split_of(f"song {number}", 0.2) for number in range(2000)]
    assert splits == [split_of(f"song {number}", 0.2) for number in range(2000)]
    assert splits.count("validation") == pytest.approx(400, abs=60)
    assert splits != [split_of(f"song {number}", 0.2, seed=1) for number in range(2000)]


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        discover({"vocals": [tmp_path / "nowhere"]})
