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
    write_stem_mp4(path, [0.85 * sum(tones), *tones])
    (song,) = find_references([path])
    assert song.name == "A - B"
    assert mixture_of(song).stream == 0
    references = read_references(song)
    total = references.vocals + references.instrumental
    gain = np.vdot(total, references.mixture) / np.vdot(total, total)
    assert gain == pytest.approx(0.85, abs=0.02)
    assert "1.4 dB quieter" in references.warnings[0]


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


def write_song(folder, noise, change):
    """A song whose mixture is ``change`` of the sum of its stems."""
    vocals, rest = noise(2, 2 * RATE), noise(2, 2 * RATE + 1)[:, 1:]
    for stem, sound in (("vocals", vocals), ("instrumental", rest), ("mixture", change(vocals + rest))):
        write(folder / f"song/{stem}.wav", sound)
    return find_references([folder])[0]


def test_mixture_that_is_the_sum_of_its_stems_needs_no_warning(tmp_path, noise):
    song = write_song(tmp_path, noise, lambda total: total + 0.05 * noise(2, 2 * RATE))
    assert read_references(song).warnings == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda total: np.pad(total, ((0, 0), (1105, 0)))[:, : 2 * RATE], r"1105 samples late\)"),
        (lambda total: np.pad(total, ((0, 0), (1105, 0))), r"1105 samples late\)"),
        (lambda total: total[:, 700:], r"700 samples early\)"),
        (lambda total: np.pad(total, ((0, 0), (RATE, 0))), r"44100 samples late\)"),
        (lambda total: 0.5 * total, r"SDR 6.0 dB, 6.0 dB quieter\)"),
        (lambda total: 2 * np.pad(total, ((0, 0), (1105, 0))), r"1105 samples late, 6.0 dB louder\)"),
        (lambda total: -total, r"SDR -6.0 dB\)"),
        (np.zeros_like, r"SDR 0.0 dB\)"),
    ],
)
def test_mixture_far_from_the_sum_of_its_stems_is_refused(tmp_path, noise, change, found):
    song = write_song(tmp_path, noise, change)
    with pytest.raises(DataError, match=rf"mixture.wav: the mixture is not the sum of its stems .*{found}; correct it"):
        read_references(song)


def test_mixture_at_another_level_is_warned_of(tmp_path, noise):
    (warning,) = read_references(write_song(tmp_path, noise, lambda total: 0.8 * total)).warnings
    assert "mixture.wav: the mixture is not the sum of its stems (SDR 14.0 dB, 1.9 dB quieter)" in warning


def test_mixture_a_second_longer_is_warned_of(tmp_path, noise):
    song = write_song(tmp_path, noise, lambda total: np.pad(total, ((0, 0), (0, RATE))))
    (warning,) = read_references(song).warnings
    assert "lengths differ (instrumental 2.0 s, vocals 2.0 s, mixture 3.0 s)" in warning


def test_mixture_of_silent_stems(tmp_path, noise):
    song = write_song(tmp_path, noise, lambda total: total)
    for stem in ("vocals", "instrumental"):
        write(tmp_path / f"song/{stem}.wav", np.zeros((2, 2 * RATE), np.float32))
    with pytest.raises(DataError, match="stems of this mixture are silent"):
        read_references(song)


def test_stem_of_a_pair_that_is_late_is_warned_of(tmp_path, noise):
    song = write_song(tmp_path, noise, lambda total: np.pad(total, ((0, 0), (1105, 0))))
    (tmp_path / "song/instrumental.wav").unlink()
    (song,) = find_references([tmp_path])
    (warning,) = read_references(song).warnings
    assert "vocals seems 1105 samples early against the mixture; instrumental" in warning


def test_folder_without_stems(tmp_path, noise):
    write(tmp_path / "song.wav", noise(2, 9000))
    with pytest.raises(DataError, match="holds no songs with stems"):
        find_references([tmp_path])


def test_file_that_holds_no_stems(tmp_path, noise):
    with pytest.raises(DataError, match=r"song.wav: is not a song with stems"):
        find_references([write(tmp_path / "song.wav", noise(2, 9000))])


def test_one_name_twice(dataset):
    with pytest.raises(DataError, match="found before"):
        find_references([dataset, dataset])
