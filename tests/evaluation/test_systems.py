from pathlib import Path

import numpy as np
import pytest

from frame_transformer.data.catalogue import AudioFile, Song
from frame_transformer.errors import DataError
from frame_transformer.evaluation.songs import References, find_delay
from frame_transformer.evaluation.systems import FolderSystem, find_stems

from .conftest import write

SONG = Song("test/A - B", "songs", {"vocals": (AudioFile(Path("vocals.wav")),)})
SAMPLES = 20_000


@pytest.fixture
def references(noise):
    vocals, rest = noise(2, SAMPLES), noise(2, SAMPLES + 1)[:, 1:]
    return References(vocals + rest, vocals, rest)


@pytest.mark.parametrize(
    ("files", "vocals", "instrumental"),
    [
        (["A - B/vocals.wav", "A - B/instrumental.wav"], 0, [1]),
        (["test/A - B/vocals.wav", "test/A - B/accompaniment.wav"], 0, [1]),
        (["A - B/vocals.flac", "A - B/no_vocals.flac"], 0, [1]),
        (["A - B.stem/vocals.wav", "A - B.stem/instrumental.wav"], 0, [1]),
        (["A - B/mixture/vocals.wav", "A - B/mixture/instrumental.wav"], 0, [1]),
        (["A - B/vocals.wav", "A - B/drums.wav", "A - B/bass.wav", "A - B/other.wav"], 0, [1, 2, 3]),
        (["A - B_(Vocals)_UVR-MDX.wav", "A - B_(Instrumental)_UVR-MDX.wav"], 0, [1]),
        (["A - B_vocals.wav", "A - B_no_vocals.wav"], 0, [1]),
        (["A - B_vocals.wav", "A - B2_instrumental.wav"], 0, None),
    ],
)
def test_files_of_other_tools(tmp_path, files, vocals, instrumental):
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    expected = {"vocals": [tmp_path / files[vocals]]}
    if instrumental is not None:
        expected["instrumental"] = [tmp_path / files[number] for number in instrumental]
    assert find_stems(tmp_path, SONG) == expected


def test_other_rate_and_channels_are_converted(tmp_path, references):
    write(tmp_path / "A - B/vocals.wav", references.vocals[:1, ::2], 22_050)
    write(tmp_path / "A - B/instrumental.wav", references.instrumental)
    estimates = FolderSystem("tool", tmp_path).estimate(SONG, references)
    assert estimates.vocals.shape == references.vocals.shape
    assert estimates.warnings == []


def test_missing_stem_is_the_rest_of_the_mixture(tmp_path, references):
    write(tmp_path / "A - B/vocals.wav", references.vocals)
    estimates = FolderSystem("tool", tmp_path).estimate(SONG, references)
    np.testing.assert_allclose(estimates.instrumental, references.instrumental, atol=1e-6)
    assert "there is no instrumental" in estimates.warnings[0]


@pytest.mark.parametrize("delay", [1105, -300])
def test_delayed_stem_is_moved_back(tmp_path, references, delay):
    for stem in ("vocals", "instrumental"):
        sound = getattr(references, stem)
        moved = np.pad(sound, ((0, 0), (delay, 0))) if delay > 0 else sound[:, -delay:]
        write(tmp_path / f"A - B/{stem}.wav", moved)
    estimates = FolderSystem("tool", tmp_path).estimate(SONG, references)
    start = max(0, -delay)
    np.testing.assert_allclose(estimates.vocals[:, start:], references.vocals[:, start:], atol=1e-6)
    assert f"moved by {-delay} samples to fit" in estimates.warnings[0]


def test_stem_that_ends_early_is_padded(tmp_path, references):
    write(tmp_path / "A - B/vocals.wav", references.vocals[:, :-500])
    write(tmp_path / "A - B/instrumental.wav", references.instrumental)
    estimates = FolderSystem("tool", tmp_path).estimate(SONG, references)
    np.testing.assert_array_equal(estimates.vocals[:, :-500], references.vocals[:, :-500])
    assert not estimates.vocals[:, -500:].any()
    assert "500 samples shorter than the song, fitted at its end" in estimates.warnings[0]


def test_stem_of_another_length_is_refused(tmp_path, references, noise):
    write(tmp_path / "A - B/vocals.wav", noise(2, SAMPLES + 50_000))
    with pytest.raises(DataError, match=r"is 1\.6 s long, the song 0\.5 s"):
        FolderSystem("tool", tmp_path).estimate(SONG, references)


def test_no_stems_of_the_song(tmp_path, references):
    with pytest.raises(DataError, match="has no stems of 'test/A - B'"):
        FolderSystem("tool", tmp_path).estimate(SONG, references)


def test_delay_of_silence_is_none(noise):
    assert find_delay(np.zeros((2, 9000), np.float32), noise(2, 9000)) == 0
