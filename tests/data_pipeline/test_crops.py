"""Crops: reproducible, never drawn twice, from the right songs and places."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from frame_transformer.data import CropConfig, CropDataset, CropSampler, DataError, MusicDataset

from .conftest import RATE

SAMPLES = RATE // 2
MIXES = CropConfig(no_vocals=0.0, only_vocals=0.0, same_song=0.0)


def kinds(dataset, count=400):
    crops = [dataset[number] for number in range(count)]
    return crops, Counter((bool(crop["instrumental"].any()), bool(crop["vocals"].any())) for crop in crops)


def test_same_number_same_crop_whatever_the_workers(catalogue):
    dataset = CropDataset(catalogue, SAMPLES, seed=3)
    alone = [batch["seed"].tolist() for batch in DataLoader(dataset, 4, sampler=CropSampler(24))]
    shared = [batch["seed"].tolist() for batch in DataLoader(dataset, 4, sampler=CropSampler(24), num_workers=2)]
    assert alone == shared
    again = CropDataset(catalogue, SAMPLES, seed=3)[5]
    assert all(
        torch.equal(torch.as_tensor(again[key]), torch.as_tensor(dataset[5][key])) for key in again if key != "songs"
    )
    assert CropDataset(catalogue, SAMPLES, seed=4)[5]["seed"] != again["seed"]


def test_ranks_share_the_numbers_out_and_resume_goes_on():
    ranks = [list(CropSampler(11, rank, 3, epoch=2)) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [3, 3, 3]
    assert sorted(chain(*ranks)) == list(range(22, 31))
    resumed = CropSampler(11, 1, 3, epoch=2, start=3)
    assert list(resumed) == ranks[1][1:]
    resumed.set_epoch(2)
    assert list(resumed) == ranks[1][1:]
    resumed.set_epoch(3)
    assert list(resumed) == [34, 37, 40]
    assert len(resumed) == 3


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
    assert all(first != second for first, second in mixed)


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
