"""VoxAug: the contract of its batches, levels, and that every effect is used."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from frame_transformer.data import (
    CropConfig,
    CropDataset,
    Effect,
    MusicDataset,
    VoxAug,
    VoxAugConfig,
    without_effects,
)
from frame_transformer.data.prepared import FULL_SCALE
from frame_transformer.data.voxaug import NO_MIX_EFFECTS, MixEffects, StemEffects, _draw

from .conftest import RATE

SAMPLES = 32_768
DEFAULT_CROPS = CropConfig()
PLAIN = without_effects(VoxAugConfig())


def batch_of(catalogue, voxaug, numbers, crops=DEFAULT_CROPS):
    dataset = CropDataset(catalogue, voxaug.read_samples, crops)
    return default_collate([dataset[number] for number in numbers])


def everything(probability: float) -> VoxAugConfig:
    """The default ranges, every effect with one probability."""

    def stem(effects):
        return replace(
            effects,
            **{f.name: replace(getattr(effects, f.name), probability=probability) for f in fields(StemEffects)},
        )

    config = VoxAugConfig()
    mix = replace(
        config.mix,
        **{f.name: replace(getattr(config.mix, f.name), probability=probability) for f in fields(MixEffects)},
    )
    names = ("speed", "time_stretch", "pitch_shift")
    times = {name: replace(getattr(config, name), probability=probability) for name in names}
    return replace(config, instrumental=stem(config.instrumental), vocals=stem(config.vocals), mix=mix, **times)


def test_parameters_are_uniform_in_their_ranges_whatever_the_probability():
    effect = Effect(0.2, ((0.0, 1.0), (10.0, 20.0), (-3.0, 0.0)))
    ((_, rows, values),) = _draw([effect], list(range(4000)), 0)
    assert len(rows) / 4000 == pytest.approx(0.2, abs=0.03)
    for (low, high), drawn in zip(effect.ranges, values, strict=True):
        assert low <= drawn.min() and drawn.max() <= high
        assert float(drawn.mean()) == pytest.approx((low + high) / 2, abs=0.05 * (high - low))


def test_batch(catalogue):
    voxaug = VoxAug(SAMPLES)
    batch = voxaug(batch_of(catalogue, voxaug, range(16)))
    for name in ("mixture", "instrumental", "vocals"):
        assert (batch[name].shape, batch[name].dtype) == ((16, 2, SAMPLES), torch.float32)
        assert batch[name].isfinite().all()
        assert batch[name].abs().max() <= 1 + 1e-6
    torch.testing.assert_close(batch["mixture"], batch["instrumental"] + batch["vocals"])
    assert len(batch["songs"]) == 16


@pytest.mark.parametrize("config", [VoxAugConfig(), everything(0.5), everything(1.0)], ids=["default", "half", "all"])
def test_a_crop_does_not_depend_on_its_batch(catalogue, config):
    voxaug = VoxAug(SAMPLES, config)
    together = voxaug(batch_of(catalogue, voxaug, range(6)))
    again = voxaug(batch_of(catalogue, voxaug, range(6)))
    alone = voxaug(batch_of(catalogue, voxaug, [4]))
    for name in ("mixture", "instrumental", "vocals"):
        assert together[name].isfinite().all()
        assert torch.equal(together[name], again[name])
        torch.testing.assert_close(alone[name][0], together[name][4], atol=1e-5, rtol=0)


def test_no_effects_is_the_plain_sum(catalogue):
    voxaug = VoxAug(SAMPLES, PLAIN)
    assert voxaug.read_samples == SAMPLES
    crops = batch_of(catalogue, voxaug, range(8), CropConfig(0.0, 0.0, 1.0))
    batch = voxaug(crops)
    quiet = batch["mixture"].abs().amax(dim=(1, 2)) < 0.99
    for name in ("instrumental", "vocals"):
        torch.testing.assert_close(batch[name][quiet], crops[name].float()[quiet] / 32768)


@pytest.mark.parametrize("name", [field.name for field in fields(StemEffects)])
def test_every_effect_is_applied(catalogue, name):
    """Switched on alone, the effect changes the stem it is configured for and leaves the other."""
    effect = replace(getattr(StemEffects(), name), probability=1.0)
    config = replace(PLAIN, vocals=replace(PLAIN.vocals, **{name: effect}))
    plain, voxaug = VoxAug(SAMPLES, PLAIN), VoxAug(SAMPLES, config)
    crops = batch_of(catalogue, plain, range(4), CropConfig(0.0, 1.0, 0.0, 1.0))
    assert not torch.allclose(voxaug(crops)["vocals"], plain(crops)["vocals"], atol=1e-4)
    assert not voxaug(crops)["instrumental"].any()


@pytest.mark.parametrize("name", [field.name for field in fields(MixEffects)])
def test_every_mix_effect_is_applied(catalogue, name):
    """Switched on alone it changes both stems; without it (validation) nothing does."""
    effect = replace(getattr(MixEffects(), name), probability=1.0)
    plain, voxaug = VoxAug(SAMPLES, PLAIN), VoxAug(SAMPLES, replace(PLAIN, mix=replace(PLAIN.mix, **{name: effect})))
    crops = batch_of(catalogue, plain, range(4), CropConfig(0.0, 0.0, 1.0, 1.0))
    changed, before = voxaug(crops), plain(crops)
    for stem in ("instrumental", "vocals"):
        assert not torch.allclose(changed[stem], before[stem], atol=1e-4)
    torch.testing.assert_close(changed["mixture"], changed["instrumental"] + changed["vocals"], atol=1e-5, rtol=0)


def test_backing_singers_are_heard_at_their_level(catalogue):
    """Each backing voice adds to the vocals, so many dB below the first."""
    config = replace(PLAIN, backing_level=(-9.0, -9.0), mixture_level=(-20.0, -20.0))
    voxaug = VoxAug(SAMPLES, config)
    crops = batch_of(catalogue, voxaug, range(6), CropConfig(0.0, 0.0, 0.0, 1.0, backing=0.0))
    noise = np.random.default_rng(0).standard_normal((6, 2, 2, SAMPLES)) * 1000
    crops["backing"] = torch.from_numpy(noise.astype(np.int16))
    crops["vocals"] = torch.from_numpy(noise[:, 1].astype(np.int16)).flip(-1)
    alone = voxaug(crops)["vocals"].square().mean(dim=(1, 2))
    crops["singers"] = torch.tensor([1, 1, 2, 2, 3, 3])
    together = voxaug(crops)["vocals"].square().mean(dim=(1, 2))
    added = 10 ** (-9 / 10)
    torch.testing.assert_close(
        together / alone, torch.tensor([1.0, 1.0, *[1 + added] * 2, *[1 + 2 * added] * 2]), rtol=0.02, atol=0
    )
    crops["backing_gap"] += 6.0  # the songs of the backing singers are quieter than that of the first
    louder = voxaug(crops)["vocals"].square().mean(dim=(1, 2))
    torch.testing.assert_close((louder / alone)[2:4], torch.full((2,), 1 + added * 10**0.6), rtol=0.02, atol=0)

    varied = VoxAug(SAMPLES, replace(config, backing_level=(-14.0, -2.0)))(crops)["vocals"].square().mean(dim=(1, 2))
    levels = 10 * torch.log10((varied / alone)[2:4] - 1) - 6
    assert ((levels > -14.2) & (levels < -1.8)).all()
    assert abs(float(levels[0] - levels[1])) > 1


def test_backing_singers_are_panned(catalogue):
    """Each to another place, at the same loudness; the first singer is silent here."""
    config = replace(PLAIN, backing_level=(0.0, 0.0), mixture_level=(-20.0, -20.0))
    crops = batch_of(catalogue, VoxAug(SAMPLES, config), range(6), CropConfig(0.0, 0.0, 0.0, 1.0, backing=0.0))
    crops["backing"] = (torch.randn(6, 2, 1, SAMPLES, generator=torch.manual_seed(0)) * 1000).short()
    crops["backing"] = crops["backing"].expand(-1, -1, 2, -1)
    crops["singers"] = torch.full((6,), 2)
    crops["vocals"] = torch.zeros_like(crops["vocals"])
    crops["level_gap"] = torch.zeros(6)

    def level(backing_balance):
        """Of the left and the right channel, dB: `(batch, 2)`."""
        vocals = VoxAug(SAMPLES, replace(config, backing_balance=backing_balance))(crops)["vocals"]
        return 10 * torch.log10(vocals.square().mean(dim=2))

    centre, left, spread = level((0.0, 0.0)), level((12.0, 12.0)), level((-18.0, 18.0))
    torch.testing.assert_close(left.diff(), torch.full((6, 1), -12.0), atol=0.01, rtol=0)
    for panned in (left, spread):
        power = (10 ** (panned / 10)).sum(dim=1) / (10 ** (centre / 10)).sum(dim=1)
        torch.testing.assert_close(power, torch.ones(6), atol=0.01, rtol=0)
    differences = spread.diff().flatten()
    assert differences.abs().max() <= 18.01
    assert differences.min() < -3 and differences.max() > 3


def test_backing_singers_get_the_effects_of_vocals(catalogue):
    flipped = replace(PLAIN, vocals=replace(PLAIN.vocals, polarity=Effect(1.0)))
    plain = VoxAug(SAMPLES, PLAIN)
    crops = batch_of(catalogue, plain, range(4), CropConfig(0.0, 0.0, 0.0, 1.0, backing=1.0))
    assert (crops["singers"] > 1).all()
    torch.testing.assert_close(
        VoxAug(SAMPLES, flipped)(crops)["vocals"].abs(), plain(crops)["vocals"].abs(), atol=1e-5, rtol=0
    )


def test_validation_has_no_effects():
    assert without_effects(everything(1.0)) == PLAIN


def test_aligned_level_changes_the_balance_of_a_song(catalogue):
    voxaug = VoxAug(SAMPLES, PLAIN)
    crops = batch_of(catalogue, voxaug, range(4), CropConfig(0.0, 0.0, 1.0, 1.0))

    def balance(aligned_level):
        config = replace(PLAIN, aligned_level=(aligned_level, aligned_level), vocals_level=(-30.0, -30.0))
        batch = VoxAug(SAMPLES, config)(crops)
        return 10 * torch.log10(batch["vocals"].square().mean() / batch["instrumental"].square().mean())

    assert float(balance(-6.0) - balance(-12.0)) == pytest.approx(6, abs=0.5)


def test_the_mix_of_a_teacher_is_not_taken_apart(catalogue):
    """No effect on one stem and no other balance; effects on the mix, and gain, as with all crops."""
    config = replace(everything(1.0), speed=Effect(0.0), time_stretch=Effect(0.0), pitch_shift=Effect(0.0))
    voxaug = VoxAug(SAMPLES, replace(config, mix=NO_MIX_EFFECTS, mixture_level=(-6.0, -6.0)))
    crops = batch_of(catalogue, voxaug, range(4), CropConfig(0.0, 0.0, 1.0, 1.0))
    crops["teacher"][::2] = True
    batch = voxaug(crops)
    for stem in ("instrumental", "vocals"):
        plain = crops[stem] / FULL_SCALE * 10 ** (-6 / 20)
        torch.testing.assert_close(batch[stem][::2], plain[::2])
        assert not torch.allclose(batch[stem][1::2], plain[1::2], atol=1e-2)


@pytest.mark.parametrize(
    ("place", "speed", "semitones"), [(0, 1.0, 0.0), (1, 1.0, 0.0), (1, 1.2, 0.0), (1, 1.0, 3.0), (2, 1.0, 0.0)]
)
def test_a_part_without_treble_limits_the_whole_mix(catalogue, place, speed, semitones):
    """At the frequency where that part ends, faster or higher as it plays; both stems alike."""
    config = replace(PLAIN, speed=Effect(1.0, ((speed, speed),)), pitch_shift=Effect(1.0, ((semitones, semitones),)))
    voxaug = VoxAug(SAMPLES, config)
    crops = batch_of(catalogue, voxaug, range(3), CropConfig(0.0, 0.0, 0.0, 1.0, backing=1.0))
    noise = np.random.default_rng(0).standard_normal((4, 3, 2, voxaug.read_samples)) * 3000
    crops["instrumental"], crops["vocals"] = torch.from_numpy(noise[:2].astype(np.int16))
    full = voxaug(crops)
    crops["bandwidth"][0, place] = 5000.0
    crops["bandwidth"][1, place] = config.full_bandwidth + 1
    given = crops["bandwidth"].clone()
    limited = voxaug(crops)
    assert torch.equal(crops["bandwidth"], given)
    assert torch.equal(limited["mixture"][1:], full["mixture"][1:])
    for stem in ("instrumental", "vocals", "mixture"):
        power = torch.fft.rfft(limited[stem][0]).abs().square().sum(dim=0)
        ends = torch.nonzero(power > 1e-6 * power.max()).max() * RATE / SAMPLES
        assert float(ends) == pytest.approx(5000 * speed * 2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize("name", ["speed", "time_stretch", "pitch_shift"])
def test_aligned_stems_keep_in_time(catalogue, name):
    """Stems of one song get the same tempo and pitch: made equal before, they are equal after."""
    config = replace(PLAIN, **{name: replace(getattr(VoxAugConfig(), name), probability=1.0)})
    voxaug = VoxAug(SAMPLES, config)
    crops = batch_of(catalogue, voxaug, range(4), CropConfig(0.0, 0.0, 1.0))
    crops["instrumental"] = crops["vocals"]
    batch = voxaug(crops)
    torch.testing.assert_close(batch["vocals"], batch["instrumental"])
    crops["aligned"] = torch.zeros(4, dtype=torch.bool)
    apart = voxaug(crops)
    assert not torch.allclose(apart["vocals"], apart["instrumental"], atol=1e-3)


def test_vocals_level(catalogue):
    """In a mix of two songs the vocals' loud places are so many dB above the instrumental's."""
    config = replace(PLAIN, vocals_level=(-9.0, -9.0), mixture_level=(-20.0, -20.0))
    samples = 6 * RATE
    voxaug = VoxAug(samples, config)
    batch = voxaug(batch_of(catalogue, voxaug, range(4), CropConfig(0.0, 0.0, 0.0, backing=0.0)))
    loud = batch["vocals"][..., 2 * RATE : 4 * RATE].square().mean().sqrt()
    ratio = 20 * torch.log10(loud / batch["instrumental"].square().mean().sqrt())
    assert float(ratio) == pytest.approx(-9, abs=0.3)


def test_no_vocals_means_none(catalogue):
    voxaug = VoxAug(SAMPLES, everything(1.0))
    batch = voxaug(batch_of(catalogue, voxaug, range(4), CropConfig(no_vocals=1.0)))
    assert not batch["vocals"].any()
    assert batch["instrumental"].any()


def test_crops_are_long_enough_for_every_draw(catalogue):
    config = replace(
        PLAIN,
        speed=Effect(1.0, ((1.2, 1.2),)),
        time_stretch=Effect(1.0, ((1.2, 1.2),)),
        pitch_shift=Effect(1.0, ((-4.0, 4.0),)),
    )
    voxaug = VoxAug(SAMPLES, config)
    batch = voxaug(batch_of(catalogue, voxaug, range(8), CropConfig(0.0, 0.0, 0.0, 0.0)))
    tail = batch["instrumental"][..., -2000:].square().mean(dim=(1, 2)).sqrt()
    assert (tail > 0.3 * batch["instrumental"].square().mean(dim=(1, 2)).sqrt()).all()


def test_music(catalogue):
    voxaug = VoxAug(SAMPLES)
    dataset = MusicDataset(catalogue, voxaug.read_samples)
    batch = voxaug.music(default_collate([dataset[number] for number in range(4)]))
    assert batch["mixture"].shape == (4, 2, SAMPLES)
    assert batch["mixture"].isfinite().all()
    assert len(batch["songs"]) == 4
