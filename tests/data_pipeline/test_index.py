"""The index tells what a file holds, what is the same music, and what should be left out."""

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter
from frame_transformer.data import Song, discover, read_index, scan, split_of
from frame_transformer.data.catalogue import AudioFile
from frame_transformer.data.index import integrated_loudness
from frame_transformer.errors import DataError

from .conftest import RATE, bursts, tone, write


def tune(seed: int, seconds: float = 20) -> np.ndarray:
    """A melody of random notes, each with harmonics and a decay: something with landmarks."""
    random = np.random.default_rng(seed)
    sound = np.zeros((2, round(seconds * RATE)), dtype="f4")
    note = round(0.25 * RATE)
    time = np.arange(note) / RATE
    for start in range(0, sound.shape[1] - note, note):
        pitch = 110 * 2 ** (random.integers(36) / 12)
        wave = sum(np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for harmonic in range(1, 6))
        sound[:, start : start + note] += 0.15 * wave * np.exp(-6 * time)
    return sound


def one(path) -> Song:
    return Song(path.stem, "instrumentals", {"instrumental": (AudioFile(path),)})


def test_what_a_file_holds(tmp_path):
    write(tmp_path / "in/tone.wav", tone(997, 3, 0.5), RATE)
    (record,) = scan(discover({"instrumentals": [tmp_path / "in"]}), tmp_path / "index.json").records
    assert (record.sample_rate, record.channels, record.error) == (RATE, 2, None)
    assert record.duration == pytest.approx(3)
    assert record.peak == pytest.approx(-6.02, abs=0.01)
    # BS.1770-4: 997 Hz at full scale in one channel is -3.01 LUFS; here two channels at -6.02 dB.
    assert record.loudness == pytest.approx(-6.02, abs=0.1)
    assert not record.silent


def test_loudness_gates_silence():
    loud = tone(997, 4, 0.5)
    assert integrated_loudness(np.concatenate([loud, 0 * loud], axis=1)) == pytest.approx(-6.02, abs=0.3)
    assert integrated_loudness(0 * loud) == -120
    assert integrated_loudness(loud[:, :1000]) == -120


def test_second_scan_reads_only_what_changed(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"in/{name}.wav", tone(300, 1)) for name in "abc"]
    songs = discover({"instrumentals": [tmp_path / "in"]})
    first = scan(songs, tmp_path / "index.json")
    write(paths[1], tone(600, 2))
    paths[2].unlink()
    import frame_transformer.data.index as module

    examined = []
    examine = module.examine
    monkeypatch.setattr(
        module, "examine", lambda file, detect: examined.append(file.path.name) or examine(file, detect)
    )
    second = scan(discover({"instrumentals": [tmp_path / "in"]}), tmp_path / "index.json")
    assert examined == ["b.wav"]
    assert second.records[0] == first.records[0]
    assert second.records[1].duration == pytest.approx(2)
    assert read_index(tmp_path / "index.json") == second
    assert len(second.records) == 2


def test_duplicates_and_what_is_left_out(tmp_path):
    folder = tmp_path / "in"
    music = tune(1)
    write(folder / "a.wav", music)
    write(folder / "a copy.flac", music)
    write(folder / "louder cut.wav", 1.5 * music[:, 3 * RATE + 123 :])
    with AudioWriter(folder / "a.mp3", RATE, 2, bitrate=128_000) as writer:
        writer.write(music)
    for number in range(2, 6):
        write(folder / f"other{number}.wav", tune(number))
    write(folder / "silence.wav", 0 * music)
    (folder / "broken.ogg").write_bytes(b"OggS" * 100)
    songs = discover({"instrumentals": [folder]})
    steps = []
    index = scan(songs, tmp_path / "index.json", progress=lambda *step: steps.append(step), workers=2)
    assert [step[:2] for step in steps] == [(number, 10) for number in range(1, 11)]

    def names(groups):
        return [sorted(record.file.path.name for record in group) for group in groups]

    assert names([index.failures(), index.silent()]) == [["broken.ogg"], ["silence.wav"]]
    assert names(index.duplicates()) == [["a copy.flac", "a.wav"]]
    assert names(index.near_duplicates()) == [["a copy.flac", "a.mp3", "a.wav", "louder cut.wav"]]
    kept, left_out = index.usable(songs)
    assert {name for name, _ in left_out} == {"a", "broken", "silence"}
    assert any("is the same as a copy" in reason for _, reason in left_out)
    groups = {song.stems["instrumental"][0].path.name: song.group for song in kept}
    assert groups["a copy.flac"] == groups["a.mp3"] == groups["louder cut.wav"]
    assert len(set(groups.values())) == 5


def test_alike_songs_never_leak_out_of_validation(tmp_path):
    """A vocals song that lies in validation takes a near duplicate of it in the training folders along."""
    write(tmp_path / "all/aaa.wav", tune(1))
    write(tmp_path / "all/validation/z.wav", 0.7 * tune(1))
    songs = discover({"instrumentals": [tmp_path / "all"]})
    kept, _ = scan(songs, tmp_path / "index.json").usable(songs)
    assert [split_of(song.group) for song in kept] == ["validation", "validation"]


def test_vocals_in_an_instrumental(tmp_path):
    songs = [
        one(write(tmp_path / f"{name}.wav", sound)) for name, sound in [("pure", tone(300, 3)), ("sung", bursts(1, 3))]
    ]
    heard = []

    def detect(sound: np.ndarray) -> float:
        heard.append(sound.shape)
        return -5.0 if np.abs(sound[:, :RATE]).max() == 0 else -40.0

    index = scan(songs, tmp_path / "index.json", detect_vocals=detect)
    assert [record.file.path.stem for record in index.with_vocals()] == ["sung"]
    assert heard == [(2, 3 * RATE)] * 2
    # Known levels are kept; a scan without them is completed when a detector comes.
    scan(songs, tmp_path / "index.json", detect_vocals=detect)
    assert len(heard) == 2
    scan(songs, tmp_path / "other.json")
    scan(songs, tmp_path / "other.json", detect_vocals=detect)
    assert len(heard) == 4


@pytest.mark.parametrize("content", ["", "[]", '{"format": 99, "files": []}', '{"format": 1, "files": [{"path": 3}]}'])
def test_damaged_index(tmp_path, content):
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(DataError, match="no readable index"):
        read_index(tmp_path / "index.json")
