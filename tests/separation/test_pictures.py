"""Spectrograms: what is where in them, and that long songs become no wider."""

import numpy as np

from frame_transformer.separation import StemBlock, pictures
from frame_transformer.separation.pictures import SpectrogramPictures


def drawn(vocals, instrumental, block=5000):
    drawing = SpectrogramPictures()
    for start in range(0, vocals.shape[1], block):
        parts = vocals[:, start : start + block], instrumental[:, start : start + block]
        drawing.push(StemBlock(parts[0] + parts[1], *parts))
    return {name: np.asarray(picture) for name, picture in drawing.finish().items()}


def tone(frequency, samples):
    return (0.3 * np.sin(2 * np.pi * frequency * np.arange(samples) / 44_100)).astype(np.float32)[None]


def test_tones_stand_where_they_belong():
    samples = 1024 * 40
    vocals, instrumental = tone(1000, samples), tone(8000, samples)
    vocals[:, : samples // 2] = 0
    images = drawn(vocals, instrumental)
    assert {name: image.shape for name, image in images.items()} == {
        "mixture": (1025, 41, 3), "vocals": (1025, 41, 3), "instrumental": (1025, 41, 3), "mask": (1025, 41),
    }  # fmt: skip
    low, high = 1024 - round(1000 * 2048 / 44_100), 1024 - round(8000 * 2048 / 44_100)
    assert images["vocals"][low, 30].sum() > 500 > 50 > images["vocals"][low, 10].sum()
    assert images["instrumental"][high, 10].sum() > 500 > 50 > images["vocals"][high, 10].sum()
    assert images["mixture"][low, 30].sum() > 500
    assert (images["mask"][low, 30], images["mask"][high, 30]) == (0, 255)


def test_long_songs_are_not_wider_and_no_frame_is_lost(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_COLUMNS", 32)
    samples = 1024 * 500
    loud = np.zeros((1, samples), np.float32)
    loud[:, samples // 2 :] = tone(1000, samples // 2)
    for block in (700, 5000, samples):
        image = drawn(loud, np.zeros_like(loud), block)["vocals"]
        assert 16 <= image.shape[1] <= 33
        row = image[1024 - round(1000 * 2048 / 44_100)].sum(axis=1) > 400
        assert abs(row.argmax() / len(row) - 0.5) < 0.05
        assert row[-1]
