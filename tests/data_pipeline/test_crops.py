"""Crops: reproducible, never drawn twice, from the right songs and places."""

from collections import Counter
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from frame_transformer.data import (
    CropConfig,
    CropDataset,
    MusicDataset,
    crop_numbers,
    discover,
    prepare,
    read_prepared,
)
from frame_transformer.errors import DataError

from .conftest import RATE, tone, write

SAMPLES = RATE // 2
MIXES = CropConfig(no_vocals=0.0, only_vocals=0.0, same_song=0.0, backing=0.0)


def kinds(dataset, count=400):
    crops = [dataset[number] for number in range(count)]
    return crops, Counter((bool(crop["instrumental"].any()), bool(crop["vocals"].any())) for crop in crops)


def test_same_number_same_crop_whatever_the_workers(catalogue):
    dataset = CropDataset(catalogue, SAMPLES, seed=3)
    alone, shared = (
        [batch["seed"].tolist() for batch in DataLoader(dataset, 4, sampler=range(24), num_workers=workers)]
        for workers in (0, 2)
    )
    assert alone == shared
    again = CropDataset(catalogue, SAMPLES, seed=3)[5]
    assert all(
        torch.equal(torch.as_tensor(again[key]), torch.as_tensor(dataset[5][key])) for key in again if key != "songs"
    )
    assert CropDataset(catalogue, SAMPLES, seed=4)[5]["seed"] != again["seed"]


def test_ranks_share_the_numbers_out():
    ranks = [crop_numbers(11, 2, rank, 3) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [3, 3, 3]
    assert sorted(chain(*ranks)) == list(range(22, 31))


def test_every_crop_has_another_seed(catalogue):
    dataset = CropDataset(catalogue, SAMPLES)
    assert len({dataset[number]["seed"] for number in range(1000)}) == 1000


def test_shares(catalogue):
    config = CropConfig(no_vocals=0.3, only_vocals=0.2, same_song=0.2, active_share=1.0)
    crops, found = kinds(CropDataset(catalogue, SAMPLES, config))
    # Half a second around an active second may still miss the burst's end, so vocals are not always there.
    assert found[False, True] / 400 == pytest.approx(0.2, abs=0.07)
    assert found[True, False] / 400 == pytest.approx(0.3, abs=0.12)
    aligned = [crop for crop in crops if crop["aligned"]]
    assert len(aligned) / 400 == pytest.approx(0.2, abs=0.07)
    assert {crop["songs"] for crop in aligned} == {"duet", "validation/kept"}
    assert all(crop["level_gap"] == 0 for crop in aligned)
    mixed = [crop["songs"].split(" + ") for crop in crops if " + " in crop["songs"]]
    assert mixed
    assert all(instrumental not in voices for instrumental, *voices in mixed)


def test_active_places_are_preferred(catalogue):
    """Vocals sound a third of the time; drawing active places finds them nearly always, drawing anywhere does not."""

    def heard(active_share):
        dataset = CropDataset(catalogue, SAMPLES, CropConfig(0.0, 0.0, 0.0, active_share))
        return np.mean([bool(dataset[number]["vocals"].any()) for number in range(200)])

    assert heard(1.0) > 0.95
    assert heard(0.0) < 0.6


def test_level_gap_is_that_of_the_loud_places(catalogue):
    crop = CropDataset(catalogue, SAMPLES, MIXES)[0]
    # A tone of amplitude 0.2 has an RMS of 0.2 / sqrt(2) = -17 dB, the noise -14 dB.
    assert float(crop["level_gap"]) == pytest.approx(-3, abs=0.2)


@pytest.fixture(scope="module")
def choir(tmp_path_factory):
    """Singer "long" has 12 s in three takes, "short" 2 s, "single" lies in no folder; and two instrumentals."""
    root = tmp_path_factory.mktemp("choir")
    takes = {"train/long/a": 2, "train/long/b": 2, "train/long/c": 8, "short/a": 2, "single": 4}
    for number, (name, seconds) in enumerate(takes.items()):
        noise = np.random.default_rng(number).standard_normal((2, seconds * RATE)).astype("f4") * 0.1
        write(root / f"vocals/{name}.wav", noise)
    for name, seconds in {"played/a": 9, "made/b": 3}.items():
        write(root / f"instrumentals/{name}.wav", tone(300, seconds))
    prepare(discover({role: [root / role] for role in ("vocals", "instrumentals")}), root / "prepared")
    return read_prepared(root / "prepared")


def drawn(songs, config, part, count=1500):
    """How often the vocals (part 1) or the instrumental (part 0) of mixes are of each song."""
    dataset = CropDataset(songs, 100, config)
    names = Counter(dataset[number]["songs"].split(" + ")[part] for number in range(count))
    return {name: times / count for name, times in names.items()}


def test_singers_are_drawn_evenly_and_their_takes_by_length(choir):
    """And instrumentals by length alone."""
    third = 1 / 3
    expected = {"train/long/a": third / 6, "train/long/b": third / 6, "train/long/c": third * 4 / 6}
    expected |= {"short/a": third, "single": third}
    assert drawn(choir, MIXES, 1) == pytest.approx(expected, abs=0.04)
    assert drawn(choir, MIXES, 0) == pytest.approx({"played/a": 0.75, "made/b": 0.25}, abs=0.04)


def test_weights_of_singers_and_instrumentals(choir):
    weights = {"vocals/short/*": 4.0, "vocals/*": 1.0, "instrumentals/made/*": 9.0, "instrumentals/*": 1.0}
    config = replace(MIXES, weights=weights)
    assert drawn(choir, config, 1)["short/a"] == pytest.approx(4 / 6, abs=0.04)
    assert drawn(choir, config, 0)["made/b"] == pytest.approx(0.75, abs=0.04)
    assert set(drawn(choir, replace(MIXES, weights={"vocals/train/*": 0.0}), 1)) == {"short/a", "single"}
    with pytest.raises(DataError, match="no vocals"):
        CropDataset(choir, 100, replace(MIXES, weights={"vocals/*": 0.0}))


def test_songs_of_the_teacher_are_used_whole_and_in_no_other_way(catalogue, caplog):
    """And have no part in the shares of true stems."""
    config = CropConfig(0.1, 0.1, 0.2, teacher=0.3, teacher_songs=("songs/duet*",))
    dataset = CropDataset(catalogue, SAMPLES, config)
    crops = [dataset[number] for number in range(400)]
    of_teacher = [crop for crop in crops if crop["teacher"]]
    assert len(of_teacher) / 400 == pytest.approx(0.3, abs=0.07)
    assert all(crop["aligned"] and crop["songs"] == "duet" for crop in of_teacher)
    others = [crop for crop in crops if not crop["teacher"]]
    assert {crop["songs"] for crop in others if crop["aligned"]} == {"validation/kept"}
    assert not any("duet" in crop["songs"] for crop in others)
    assert not caplog.records
    without = CropDataset(catalogue, SAMPLES, replace(config, teacher_songs=("songs/other*",)))
    assert not any(without[number]["teacher"] for number in range(100))
    assert "no songs match teacher_songs (songs/other*)" in caplog.text


def test_backing_singers_are_others(choir):
    """In half of the mixes, and a third of those has two."""
    dataset = CropDataset(choir, 100, replace(MIXES, backing=0.5))
    crops = [dataset[number] for number in range(900)]
    singers = Counter(crop["singers"] for crop in crops)
    assert {count: times / 900 for count, times in singers.items()} == pytest.approx(
        {1: 1 / 2, 2: 1 / 3, 3: 1 / 6}, abs=0.05
    )
    for crop in crops:
        assert [bool(voice.any()) for voice in crop["backing"]] == [crop["singers"] > 1, crop["singers"] > 2]
        lead, *backing = [name.split("/")[-2:][0] for name in crop["songs"].split(" + ")[1:]]
        assert lead not in backing
    aligned_or_alone = CropDataset(choir, 100, CropConfig(0.5, 0.5, 0.0, backing=1.0))
    assert {aligned_or_alone[number]["singers"] for number in range(50)} == {0, 1}


def test_backing_gap_is_how_much_louder_the_first_singer_is(choir):
    crops = [CropDataset(choir, 100, replace(MIXES, backing=1.0))[number] for number in range(5)]
    assert all(abs(float(crop["backing_gap"][0])) < 0.3 for crop in crops)  # all of one level
    dataset = CropDataset(choir, 100, replace(MIXES, backing=1.0))
    dataset.vocals.levels = [-20.0 if song.singer == "short" else -14.0 for song in dataset.vocals.songs]
    gaps = Counter()
    for number in range(200):
        crop = dataset[number]
        if crop["singers"] == 2:
            lead, backing = (name.startswith("short") for name in crop["songs"].split(" + ")[1:])
            gaps[lead, backing, float(crop["backing_gap"][0])] += 1
    assert set(gaps) == {(True, False, -6.0), (False, True, 6.0), (False, False, 0.0)}


def test_bandwidth_is_the_lower_of_measured_and_given(choir):
    songs = [
        replace(song, bandwidth={"vocals": 9000.0} if song.singer == "short" else song.bandwidth) for song in choir
    ]
    given = {"vocals/short/*": 12_000.0, "vocals/train/long/*": 5000.0}
    dataset = CropDataset(songs, 100, replace(MIXES, bandwidths=given, backing=0.0))
    found = {
        (crop["songs"].split(" + ")[1].split("/")[0], *crop["bandwidth"].tolist())
        for crop in map(dataset.__getitem__, range(60))
    }
    nyquist = RATE / 2
    expected = {"train": 5000.0, "short": 9000.0, "single": nyquist}
    assert found == {(name, nyquist, value, nyquist, nyquist) for name, value in expected.items()}


def test_backing_does_not_limit_the_mix(choir):
    dataset = CropDataset(choir, 100, replace(MIXES, bandwidths={"vocals/short/*": 5000.0}, backing=1.0))
    bandwidths = [dataset[number]["bandwidth"] for number in range(100)]
    assert all((bandwidth[2:] >= bandwidth[1]).all() for bandwidth in bandwidths)
    assert any(bandwidth[1] == 5000 for bandwidth in bandwidths)
    alone = [song for song in choir if song.role == "instrumentals" or song.singer == "long"]
    dataset = CropDataset(alone, 100, replace(MIXES, backing=1.0))
    assert {dataset[number]["singers"] for number in range(20)} == {1}


def test_crop_longer_than_the_song_is_padded(catalogue):
    crop = CropDataset(catalogue, 10 * RATE, MIXES)[0]
    assert crop["instrumental"].shape == (2, 10 * RATE)
    assert not crop["instrumental"][:, 6 * RATE :].any()


def test_music_is_the_sum_of_the_stems(catalogue):
    dataset = MusicDataset(catalogue, SAMPLES)
    crops = [dataset[number] for number in range(100)]
    assert {crop["songs"] for crop in crops} == {"any", "tone1", "tone2", "duet", "validation/kept"}
    loudest = max(int(crop["music"].abs().max()) for crop in crops if crop["songs"] == "duet")
    assert loudest > 0.5 * 32768  # the tone alone has 0.2


@pytest.mark.parametrize(("missing", "message"), [("vocals", "no vocals"), ("instrumental", "no instrumentals")])
def test_catalogue_without_a_stem(catalogue, missing, message):
    with pytest.raises(DataError, match=message):
        CropDataset([song for song in catalogue if missing not in song.stems], SAMPLES)


def test_no_music(catalogue):
    with pytest.raises(DataError, match="no music"):
        MusicDataset([song for song in catalogue if song.role == "vocals"], SAMPLES)
