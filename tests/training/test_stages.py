"""All three stages one after the other, from folders to the separation of songs that none of them saw."""

import numpy as np
import pytest

from examples.three_stages import RATE, adversarial, curve, first_two_stages, music, voice
from frame_transformer import Separator

MARGIN_DB = 5.0


def sdr(target: np.ndarray, estimate: np.ndarray) -> float:
    return 10 * np.log10(np.sum(target**2) / np.sum((target - estimate) ** 2))


@pytest.mark.timeout(300)
def test_unseen_songs_after_three_stages(tmp_path):
    pretrained, supervised = first_two_stages(tmp_path)
    last = adversarial(tmp_path, "last", 8, pretrained, supervised)
    for model in (supervised, last):
        gains = []
        for number in range(10, 14):
            instrumental, vocals = music(number), voice(number)
            mixture = instrumental + vocals
            stems = Separator(model).separate(mixture, RATE)
            gains.append(sdr(vocals, stems.vocals) - sdr(vocals, mixture))
        assert min(gains) > MARGIN_DB, gains
    assert len(curve(tmp_path / "last", "train/discriminator_accuracy")) == 8  # it learned at every step
