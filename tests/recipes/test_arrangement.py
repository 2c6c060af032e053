import numpy as np
import pytest
from arrangement import GENRES, PADS, SYNTHS, Arrangement

VOICES = {52, 53, 54, 85, 91, 94}  # General MIDI: choirs, voice leads and pads


@pytest.mark.parametrize("genre", GENRES)
def test_every_genre_composes_a_song_that_can_be_played(genre):
    song = Arrangement(genre, np.random.default_rng(3))
    assert 80 < song.seconds < 280
    assert song.bar == 56
    for part in song.parts:
        assert part.name == "drums" or part.program not in VOICES
        for event in part.events:
            assert 0 <= event.start < song.seconds
            assert event.length > 0
            assert 0 <= event.key <= 127
            assert 1 <= event.velocity <= 127
    assert len(song.drums.events) > 200
    assert len(song.bass.events) > 40
    assert len(song.kicks) > 20
    again = Arrangement(genre, np.random.default_rng(3))
    assert [part.events for part in again.parts] == [part.events for part in song.parts]


def test_no_instrument_is_a_voice():
    programs = {*PADS, *SYNTHS}
    for genre in GENRES.values():
        programs |= {*genre.bass, *genre.chords, *genre.leads}
    assert not programs & VOICES


def test_two_guitars_play_the_same_riff_not_quite_alike():
    song = Arrangement("rock", np.random.default_rng(5))
    left, right = (next(p for p in song.parts if p.name == f"guitar_{side}") for side in ("left", "right"))
    assert [event.key for event in left.events] == [event.key for event in right.events]
    gaps = np.array([a.start - b.start for a, b in zip(left.events, right.events, strict=True)])
    assert 0 < np.abs(gaps).mean() < 0.03


def test_melodies_and_basslines_keep_to_the_key():
    song = Arrangement("pop", np.random.default_rng(7))
    allowed = {(song.tonic + step) % 12 for step in song.mode}
    chords = [event.key % 12 in allowed for part in song.chords for event in part.events]
    assert all(chords)
    assert np.mean([event.key % 12 in allowed for event in song.bass.events]) > 0.9


def test_a_short_song_has_the_bars_that_were_asked_for():
    assert Arrangement("house", np.random.default_rng(1), bars=4).bar == 4
