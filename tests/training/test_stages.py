"""All three stages one after the other, from folders to the separation of songs that none of them saw."""

import numpy as np
import pytest

from examples.three_stages import RATE, adversarial, first_two_stages, music, voice
from frame_transformer import Separator
from frame_transformer.training.run import parse

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


def test_the_discriminator_starts_from_the_encoder():
    """All of it but what reads the mixture beside the candidate, and the judgement itself."""
    discriminator = parse(["--config", "adversarial", "--trainer.accelerator=cpu"]).model.discriminator
    model = parse(["--config", "default", "--trainer.accelerator=cpu"]).model.model
    sizes = {name: value.numel() for name, value in discriminator.state_dict().items()}
    own = sum(size for name, size in sizes.items() if name.startswith(("split.", "out.")))
    assert discriminator.copy_encoder(model) == sum(sizes.values()) - own
