"""The prepared form holds the same sound, is made once, and survives bad files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from frame_transformer.data import discover, prepare, read_prepared
from frame_transformer.data.reading import read
from frame_transformer.errors import DataError

from .conftest import RATE, bursts, tone, write


def test_crops_are_the_decoded_sound(folders, catalogue):
    song = next(song for song in catalogue if song.name == "tone1")
    assert (song.samples, song.stems, song.role) == (6 * RATE, ("instrumental",), "instrumentals")
    crop = song.crop("instrumental", 1000, 5000)
    assert crop.dtype == np.int16
    assert crop.flags.c_contiguous
    np.testing.assert_allclose(crop.T / 32768, tone(200, 6)[:, 1000:6000], atol=2 / 32768)
    beyond = song.crop("instrumental", song.samples - 10, 30)
    assert beyond[:10].any()
    assert not beyond[10:].any()


def test_rms_table(catalogue):
    song = next(song for song in catalogue if song.name == "voice1")
    np.testing.assert_allclose(song.rms("vocals"), [0, 0, 0.2, 0.2, 0, 0], atol=0.01)


def test_bandwidth_is_where_the_spectrum_ends(tmp_path):
    """A low sample rate leaves an end; a steady fall, or treble that is only faint, does not."""
    noise = np.random.default_rng(0).standard_normal((2, 4 * RATE)).astype("f4") * 0.1
    spectrum, frequencies = np.fft.rfft(noise), np.fft.rfftfreq(4 * RATE, 1 / RATE)
    responses = {
        "full": np.ones_like(frequencies),
        "cut": frequencies < 5500,
        "dull": 10 ** (-frequencies / 200 / 20),  # -5 dB every kHz
        "silent": np.zeros_like(frequencies),
    }
    for name, response in responses.items():
        write(tmp_path / f"in/{name}.wav", np.fft.irfft(spectrum * response).astype("f4"))
    prepare(discover({"vocals": [tmp_path / "in"]}), tmp_path / "out")
    found = {song.name: song.bandwidth["vocals"] for song in read_prepared(tmp_path / "out")}
    assert found["cut"] == pytest.approx(5500, abs=150)
    assert {found[name] for name in ("full", "dull", "silent")} == {RATE / 2}


def test_singer_is_the_folder_below_the_role(tmp_path):
    for name in ("vocals/ann/a", "vocals/train/bob/b", "vocals/c", "validation/vocals/dan/d"):
        write(tmp_path / f"{name}.wav", tone(300, 1))
    folders = [tmp_path / "vocals", tmp_path / "validation/vocals"]
    prepare(discover({"vocals": folders}), tmp_path / "out")
    assert sorted(song.singer for song in read_prepared(tmp_path / "out")) == ["ann", "bob", "c", "dan"]


def test_other_rates_and_mono(tmp_path):
    write(tmp_path / "in/low.wav", np.ascontiguousarray(tone(400, 2)[:1, ::2]), RATE // 2)
    prepare(discover({"instrumentals": [tmp_path / "in"]}), tmp_path / "out")
    (song,) = read_prepared(tmp_path / "out")
    assert song.samples == 2 * RATE
    crop = song.crop("instrumental", RATE // 2, RATE).T / 32768
    assert np.array_equal(crop[0], crop[1])
    np.testing.assert_allclose(crop[0], tone(400, 2)[0, RATE // 2 : RATE // 2 + RATE], atol=2e-3)


def test_sums_pairs_and_clipping(tmp_path):
    """MUSDB layout is summed; a pair gives the difference; stems that would clip share one gain."""
    parts = {"drums": tone(100, 1, 0.6), "bass": tone(150, 1, 0.6), "other": tone(210, 1, 0.6), "vocals": bursts(3, 1)}
    for name, part in parts.items():
        write(tmp_path / "in/musdb" / f"{name}.wav", part)
    voice, music = bursts(4, 1, 0.1), tone(500, 1)
    write(tmp_path / "in/pair/mixture.wav", voice + music)
    write(tmp_path / "in/pair/instrumental.wav", music)
    prepare(discover({"songs": [tmp_path / "in"]}), tmp_path / "out")
    musdb, pair = read_prepared(tmp_path / "out")
    instrumental = parts["drums"] + parts["bass"] + parts["other"]
    gain = json.loads((musdb.folder / "song.json").read_text())["gain"]
    assert gain == pytest.approx(1 / np.abs(instrumental).max(), rel=1e-3)
    np.testing.assert_allclose(musdb.crop("instrumental", 0, RATE).T / 32768, gain * instrumental, atol=1e-3)
    np.testing.assert_allclose(musdb.crop("vocals", 0, RATE).T / 32768, gain * parts["vocals"].clip(-1, 1), atol=1e-3)
    np.testing.assert_allclose(pair.crop("vocals", 0, RATE).T / 32768, voice, atol=2e-3)


def test_second_run_reads_only_what_changed(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"in/{name}.wav", tone(300, 1)) for name in "ab"]
    songs = discover({"instrumentals": [tmp_path / "in"]})
    assert prepare(songs, tmp_path / "out").prepared == ["a", "b"]
    decoded = []
    monkeypatch.setattr("frame_transformer.data.prepared.read", lambda file: decoded.append(file.path) or read(file))
    write(paths[1], tone(600, 2))
    report = prepare(songs, tmp_path / "out")
    assert (report.prepared, report.up_to_date, decoded) == (["b"], ["a"], [paths[1]])
    assert [song.samples for song in read_prepared(tmp_path / "out")] == [RATE, 2 * RATE]


def test_another_working_directory_is_no_change(tmp_path, monkeypatch):
    write(tmp_path / "in/a.wav", tone(300, 1))
    for place, folder in (("", "in"), ("in", ".")):
        monkeypatch.chdir(tmp_path / place)
        report = prepare(discover({"instrumentals": [Path(folder)]}), tmp_path / "out")
    assert (report.prepared, report.up_to_date) == ([], ["a"])


def test_bad_and_deleted_files_are_skipped_and_counted(tmp_path):
    for name in ("good", "gone"):
        write(tmp_path / f"in/{name}.wav", tone(300, 1))
    (tmp_path / "in/bad.mp3").write_text("no audio at all")
    songs = discover({"instrumentals": [tmp_path / "in"]})
    (tmp_path / "in/gone.wav").unlink()
    seen = []
    report = prepare(songs, tmp_path / "out", progress=lambda done, total, name: seen.append((done, total, name)))
    assert report.prepared == ["good"]
    assert sorted(name for name, _ in report.skipped) == ["bad", "gone"]
    assert "was deleted" in dict(report.skipped)["gone"]
    assert [step[:2] for step in seen] == [(1, 3), (2, 3), (3, 3)]
    assert len(read_prepared(tmp_path / "out")) == 1


def test_unfinished_song_is_no_song(tmp_path):
    write(tmp_path / "in/a.wav", tone(300, 1))
    songs = discover({"instrumentals": [tmp_path / "in"]})
    prepare(songs, tmp_path / "out")
    next((tmp_path / "out").rglob("song.json")).unlink()
    with pytest.raises(DataError, match="holds no prepared songs"):
        read_prepared(tmp_path / "out")
    assert prepare(songs, tmp_path / "out").prepared == ["a"]


def test_prepared_audio_deleted_before_training(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "copy")
    song = read_prepared(tmp_path / "copy")[0]
    (song.folder / "instrumental.npy").unlink()
    with pytest.raises(DataError, match=r"instrumental\.npy: prepared audio is missing or damaged; run"):
        song.crop("instrumental", 0, 10)


@pytest.mark.parametrize("content", ["{", "{}"])
def test_damaged_description(content, tmp_path):
    damaged = tmp_path / "vocals" / "song" / "song.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text(content)
    with pytest.raises(DataError, match=r"song\.json: damaged"):
        read_prepared(tmp_path)


def test_output_that_is_a_file(folders, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(DataError, match="cannot be written"):
        prepare(discover({"instrumentals": [folders / "instrumentals"]}), tmp_path / "out")
