import av
import numpy as np
import pytest

from frame_transformer.errors import DataError
from frame_transformer.evaluation.songs import find_references, mixture_of, read_references

from .conftest import RATE, make_stems, write


def write_stem_mp4(path, sounds):
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=RATE, layout="stereo") for _ in sounds]
        for stream, sound in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", "stereo")
            frame.sample_rate = RATE
            fifo = av.AudioFifo()
            fifo.write(frame)
            for part in [*fifo.read_many(1024), fifo.read()]:
                container.mux(stream.encode(part))
            container.mux(stream.encode(None))


def test_musdb_hq_layout(dataset):
    songs = find_references([dataset])
    assert [song.name for song in songs] == ["test/One - First", "test/Two - Second"]
    references = read_references(songs[0])
    stems = make_stems(0, channels=1)
    np.testing.assert_allclose(references.vocals, stems["vocals"], atol=1e-6)
    np.testing.assert_allclose(references.instrumental, stems["drums"] + stems["bass"] + stems["other"], atol=1e-6)
    np.testing.assert_allclose(references.mixture, references.vocals + references.instrumental, atol=1e-6)


def test_stem_mp4_with_its_own_mixture(tmp_path):
    time = np.arange(RATE) / RATE
    tones = [0.1 * np.sin(2 * np.pi * f * np.stack((time, time))).astype("f4") for f in (110, 55, 440, 880)]
    path = tmp_path / "A - B.stem.mp4"
    write_stem_mp4(path, [0.5 * sum(tones), *tones])
    (song,) = find_references([path])
    assert song.name == "A - B"
    assert mixture_of(song).stream == 0
    references = read_references(song)
    total = references.vocals + references.instrumental
    gain = np.vdot(total, references.mixture) / np.vdot(total, total)
    assert gain == pytest.approx(0.5, abs=0.02)


def test_pair_has_the_difference_as_its_other_stem(tmp_path, noise):
    vocals, rest = noise(2, 9000), noise(2, 9001)[:, 1:]
    write(tmp_path / "song/vocals.wav", vocals)
    write(tmp_path / "song/mixture.wav", vocals + rest)
    np.testing.assert_allclose(read_references(find_references([tmp_path])[0]).instrumental, rest, atol=1e-6)


def test_mono_at_another_rate(tmp_path):
    stems = make_stems(2, seconds=1, channels=1, rate=22_050)
    write(tmp_path / "song/vocals.wav", stems["vocals"], 22_050)
    write(tmp_path / "song/instrumental.wav", stems["other"], 22_050)
    references = read_references(find_references([tmp_path / "song"])[0])
    assert references.vocals.shape == references.mixture.shape == (1, RATE)


def test_stems_a_little_shorter_are_padded(tmp_path, noise):
    write(tmp_path / "song/vocals.wav", noise(2, 9000))
    write(tmp_path / "song/instrumental.wav", noise(2, 8000))
    references = read_references(find_references([tmp_path])[0])
    assert references.instrumental.shape == (2, 9000)
    assert not references.instrumental[:, 8000:].any()


def test_stems_of_different_songs_are_refused(tmp_path, noise):
    write(tmp_path / "song/vocals.wav", noise(2, 9000))
    write(tmp_path / "song/instrumental.wav", noise(2, 60_000))
    with pytest.raises(DataError, match=r"differ in length \(instrumental 1.4 s, vocals 0.2 s\)"):
        read_references(find_references([tmp_path])[0])


def test_folder_without_stems(tmp_path, noise):
    write(tmp_path / "song.wav", noise(2, 9000))
    with pytest.raises(DataError, match="holds no songs with stems"):
        find_references([tmp_path])


def test_file_that_holds_no_stems(tmp_path, noise):
    with pytest.raises(DataError, match=r"song.wav: is no song with stems"):
        find_references([write(tmp_path / "song.wav", noise(2, 9000))])


def test_one_name_twice(dataset):
    with pytest.raises(DataError, match="found before"):
        find_references([dataset, dataset])
