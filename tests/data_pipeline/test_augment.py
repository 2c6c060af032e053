"""Every augmentation does what its name says, to an amount that its value says."""

import math
from itertools import chain

import numpy as np
import pytest
import torch

from frame_transformer.data import augment
from frame_transformer.data.augment import Noise

from .conftest import RATE

SAMPLES = 1 << 16
NOISE = Noise([1, 2], torch.device("cpu"))


def value(number: float) -> torch.Tensor:
    return torch.full((2,), number)


def tone(frequency: float, samples: int = SAMPLES) -> torch.Tensor:
    time = torch.arange(samples) / RATE
    sound = 0.3 * torch.stack([torch.sin(2 * math.pi * frequency * time), torch.cos(2 * math.pi * frequency * time)])
    return sound.expand(2, 2, samples).clone()


def white(samples: int = SAMPLES) -> torch.Tensor:
    return 0.1 * torch.randn(2, 2, samples, generator=torch.Generator().manual_seed(0))


def clicks(every: int = 6000, samples: int = 4 * RATE) -> torch.Tensor:
    sound = torch.zeros(2, 2, samples)
    sound[..., 100::every] = 1
    return sound


def delays_of_copies(y: torch.Tensor, every: int = 6000) -> torch.Tensor:
    """How long (samples) after each click of one channel `(samples,)` its loudest copy comes."""
    starts = torch.arange(100, len(y) - every, every)
    return torch.stack([y[start + 4 : start + every - 4].abs().argmax() + 4 for start in starts])


def power_between(x: torch.Tensor, low: float, high: float) -> float:
    """Mean power (dB) of the bins from ``low`` to ``high`` Hz."""
    spectrum = torch.fft.rfft(x).abs().square()
    bins = slice(round(low * x.shape[-1] / RATE), round(high * x.shape[-1] / RATE))
    return 10 * math.log10(float(spectrum[..., bins].mean()) + 1e-20)


def level(x: torch.Tensor) -> float:
    return 20 * math.log10(float(x.square().mean().sqrt()) + 1e-12)


def frequency(x: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(x[0] * torch.hann_window(x.shape[-1])).abs()
    return float(spectrum.argmax()) * RATE / x.shape[-1]


def test_channels():
    x = white()
    assert torch.equal(augment.channel_swap(x, NOISE)[:, 0], x[:, 1])
    assert torch.equal(augment.polarity(x, NOISE), -x)
    silent = (augment.channel_drop(x, NOISE).abs().amax(dim=2) == 0).sum(dim=1)
    assert silent.tolist() == [1, 1]
    mono = augment.width(x, value(0.0), NOISE)
    assert torch.allclose(mono[:, 0], mono[:, 1])
    torch.testing.assert_close(augment.width(x, value(1.0), NOISE), x)
    stems = torch.stack((x, x.flip(1) / 2), dim=1)
    narrow = augment.width(stems, value(0.5), NOISE)
    torch.testing.assert_close(narrow[:, 1], augment.width(stems[:, 1], value(0.5), NOISE))
    torch.testing.assert_close(narrow.sum(dim=1), augment.width(stems.sum(dim=1), value(0.5), NOISE))
    balanced = augment.balance(x, value(6.0), NOISE)
    assert level(balanced[:, 0]) - level(x[:, 0]) == pytest.approx(3, abs=0.01)
    assert level(balanced[:, 1]) - level(x[:, 1]) == pytest.approx(-3, abs=0.01)


def test_random_eq_has_the_depth_asked_for():
    impulse = torch.zeros(2, 2, SAMPLES)
    impulse[..., 0] = 1
    torch.testing.assert_close(augment.random_eq(impulse, value(0.0), NOISE), impulse, atol=1e-5, rtol=0)
    many = Noise(range(200), torch.device("cpu"))
    points = augment.random_eq(impulse[:1].expand(200, 2, SAMPLES), torch.full((200,), 4.0), many)
    response = 20 * torch.fft.rfft(points[:, 0]).abs().log10()
    assert float(response[:, -1].std()) == pytest.approx(4, abs=0.8)


def test_reverb_rings_and_decays():
    impulse = torch.zeros(2, 2, SAMPLES)
    impulse[..., 1000] = 1
    wet = augment.reverb(impulse, value(0.5), value(-6.0), NOISE)
    assert level(wet) == pytest.approx(level(impulse), abs=0.01)
    assert float(wet[..., :990].abs().max()) < 1e-5
    early, late = wet[..., 1100:3300], wet[..., 1100 + RATE // 4 : 3300 + RATE // 4]
    assert level(early) - level(late) == pytest.approx(30, abs=2)  # half of the 0.5 s to -60 dB


def test_distortion_adds_harmonics():
    x = tone(1000)
    odd = augment.distortion(x, value(12.0), value(0.0), NOISE)
    both = augment.distortion(x, value(12.0), value(0.5), NOISE)
    assert level(odd) == pytest.approx(level(x), abs=0.01)

    def harmonic(y, number):
        spectrum = torch.fft.rfft(y[0, 0] * torch.hann_window(SAMPLES)).abs()
        bin_number = round(1000 * number * SAMPLES / RATE)
        return float(spectrum[bin_number - 3 : bin_number + 4].max() / spectrum.max())

    for y in (odd, both):
        assert float(y.mean(dim=2).abs().max()) < 1e-4
    assert harmonic(x, 3) < 1e-3
    assert harmonic(odd, 3) > 0.02
    assert harmonic(odd, 2) < 1e-3 < 0.02 < harmonic(both, 2)


def test_dynamics_narrows_and_widens_the_range():
    x = white()
    x[..., SAMPLES // 2 :] *= 0.1

    def step(y):
        return level(y[..., 5000:25000]) - level(y[..., -25000:-5000])

    assert step(augment.dynamics(x, value(-0.5), NOISE)) == pytest.approx(10, abs=0.5)
    assert step(augment.dynamics(x, value(0.3), NOISE)) == pytest.approx(26, abs=0.5)


def test_emphasis_and_its_inverse():
    x = white()
    bright, dull = augment.emphasis(x, value(0.6), NOISE), augment.emphasis(x, value(-0.6), NOISE)

    def tilt(y):
        power = torch.fft.rfft(y).abs().square().mean(dim=(0, 1))
        return 10 * math.log10(power[-2000:].mean() / power[:2000].mean())

    assert tilt(bright) == pytest.approx(20 * math.log10(1.6 / 0.4), abs=0.8)
    assert tilt(dull) == pytest.approx(-20 * math.log10(1.6 / 0.4), abs=0.8)


def test_filters_take_a_prime_length():
    """They transform a longer signal then."""
    impulse = torch.zeros(2, 2, SAMPLES + 1)
    impulse[..., -2] = 1
    torch.testing.assert_close(augment.random_eq(impulse, value(0.0), NOISE), impulse, atol=1e-5, rtol=0)
    bright = augment.emphasis(impulse, value(0.6), NOISE)
    expected = impulse - 0.6 * impulse.roll(1, -1)
    torch.testing.assert_close(bright / bright.amax(), expected, atol=1e-5, rtol=0)


def test_noise_in_the_spectrogram():
    x = tone(1000)
    for effect in (augment.multiplicative_noise, augment.phase_noise):
        torch.testing.assert_close(effect(x, value(0.0), NOISE), x, atol=1e-5, rtol=0)
        errors = [level(effect(x, value(amount), NOISE) - x) - level(x) for amount in (0.05, 0.2)]
        assert errors[1] - errors[0] == pytest.approx(12, abs=1)


def slices_of(chopped: torch.Tensor, length: int) -> list[str] | None:
    """What became of each slice of the ramp 1, 2, 3, …; None if these are not the slices."""
    kinds = []
    for number, piece in enumerate(chopped.split(length)[:-1]):
        inner = piece[300:-300]  # without the fades
        step = inner.diff()
        if not inner.any():
            kinds.append("silent")
        elif not ((step == step[0]).all() and abs(float(step[0])) == 1):
            return None
        else:
            origin = (float(inner.min()) - 301) / length
            if origin != round(origin) or origin > number:
                return None
            kinds.append("backwards" if step[0] < 0 else "repeated" if origin < number else "plain")
    return kinds


def test_chop_repeats_reverses_and_silences_slices():
    """At 120 beats per minute the slices are an eighth or a sixteenth long."""
    count = 200
    samples = 4 * RATE + RATE // 16
    ramp = torch.arange(1, samples + 1).float().expand(count, 2, samples)
    chopped = augment.chop(ramp, torch.full((count,), 120.0), Noise(range(count), torch.device("cpu")))
    found = [(slices_of(y, RATE // 4), slices_of(y, RATE // 8)) for y in chopped[:, 0]]
    assert all(eighths or sixteenths for eighths, sixteenths in found)
    assert sum(eighths is not None for eighths, _ in found) / count == pytest.approx(0.5, abs=0.12)
    kinds = list(chain.from_iterable(eighths or sixteenths or [] for eighths, sixteenths in found))
    shares = {kind: kinds.count(kind) / len(kinds) for kind in kinds}
    expected = {"silent": 0.15, "backwards": 0.85 * 0.2, "repeated": 0.85 * 0.8 * 0.35, "plain": 0.85 * 0.8 * 0.65}
    assert shares == pytest.approx(expected, abs=0.035)
    held = (chopped.diff() == 0) & (chopped[..., 1:] != 0)  # the last slice backwards begins beyond the end
    assert float(held.float().mean()) < 1e-5


def test_chop_fades_its_cuts():
    """Nothing jumps: a slow sine has no step that is larger than the fades make."""
    x = tone(50, 4 * RATE)
    chopped = augment.chop(x, value(120.0), NOISE)
    assert not torch.equal(chopped, x)
    assert float(chopped.diff().abs().max()) < 0.01


def test_telephone_leaves_its_band():
    x = white()
    y = augment.telephone(x, value(400.0), value(3000.0), NOISE)
    assert level(y) == pytest.approx(level(x), abs=0.01)
    inside = power_between(y, 900, 1300) - power_between(x, 900, 1300)
    for low, high in ((190, 210), (5800, 6200)):  # an octave beyond
        assert power_between(y, low, high) - power_between(x, low, high) - inside == pytest.approx(-24, abs=1)
    for low, high in ((380, 420), (2950, 3050)):
        assert power_between(y, low, high) - power_between(x, low, high) - inside == pytest.approx(-3, abs=1)


def test_harmony_is_an_interval_away():
    seeds = range(12)
    x = tone(1000)[:1].expand(12, 2, SAMPLES).clone()
    y = augment.harmony(x, torch.full((12,), -6.0), Noise(seeds, torch.device("cpu")))
    found = set()
    for row, original in zip(y, x, strict=True):
        assert level(row) == pytest.approx(level(original), abs=0.01)
        spectrum = torch.fft.rfft(row * torch.hann_window(SAMPLES)).abs().square().sum(dim=0)
        lead = round(1000 * SAMPLES / RATE)
        power = float(spectrum[lead - 8 : lead + 9].sum())
        spectrum[lead - 8 : lead + 9] = 0
        interval = 12 * math.log2(float(spectrum.argmax()) * RATE / SAMPLES / 1000)
        assert min(abs(interval - allowed) for allowed in augment.INTERVALS) < 0.3
        assert 10 * math.log10(float(spectrum.sum()) / power) == pytest.approx(-6, abs=1)
        found.add(round(interval))
    assert len(found) > 3


def test_doubling_and_chorus_are_late_and_waver():
    for effect, seconds, cents in ((augment.doubling, 0.03, 15.0), (augment.chorus, 0.015, 15.0)):
        y = effect(clicks(), value(seconds), value(cents), value(-6.0), NOISE)
        left, right = delays_of_copies(y[0, 0]), delays_of_copies(y[0, 1])
        widest = (2 ** (cents / 1200) - 1) / (2 * math.pi * 0.3) * RATE
        for delays in (left, right):
            assert float(delays.float().mean()) == pytest.approx(seconds * RATE, rel=0.2, abs=0.6 * widest)
            slopes = delays.diff().abs() / 6000  # pitch ratio of the copy, less 1
            assert 0.3 * (2 ** (cents / 1200) - 1) < float(slopes.max()) < 1.1 * (2 ** (cents / 1200) - 1)
        assert (left != right).any()
        first = y[0, 0, 100 : 100 + 6000]
        copy = float(first[4:].square().sum())
        assert 10 * math.log10(copy / float(first[:4].square().sum())) == pytest.approx(-6, abs=1.5)


def test_flanger_sweeps_up_to_its_delay():
    y = augment.flanger(clicks(6000, 12 * RATE), value(0.008), value(-1.0), NOISE)
    assert torch.equal(y[:, 0], y[:, 1])
    delays = delays_of_copies(y[0, 0]) / RATE
    assert float(delays.max()) == pytest.approx(0.008, abs=0.0005)
    assert float(delays.min()) < 0.001


def test_echo_comes_in_time():
    """A short tone at 100 beats per minute, feedback 0.5, first repeat 6 dB below."""
    count, start, length = 24, 1000, 3000
    x = torch.zeros(count, 2, 3 * RATE)
    x[..., start : start + length] = (tone(700, length)[:1, :1] * torch.hann_window(length)).expand(count, 2, length)
    settings = (torch.full((count,), number) for number in (100.0, 0.5, -6.0))
    y = augment.echo(x, *settings, Noise(range(count), torch.device("cpu")))
    beats, notes, ways = {int(beat * RATE * 0.6): beat for beat in (0.5, 0.75, 1.0)}, set(), set()
    for sound in y:
        energy = sound.square().cumsum(dim=1)
        delay = next(delay for delay in beats if sound[:, start + delay :][:, :length].abs().max() > 0.02)
        notes.add(beats[delay])
        places = [start + number * delay for number in range(4)]
        repeats = torch.stack([energy[:, place + length] - energy[:, place] for place in places])
        assert 10 * torch.log10(repeats[1].max() / repeats[0].max()) == pytest.approx(-6, abs=0.7)
        loudest = repeats[1:].amax(dim=1)
        torch.testing.assert_close(loudest[1:] / loudest[:-1], torch.full((2,), 0.25), rtol=0.02, atol=0)
        sides = repeats[1:] > 0.01 * loudest[:, None]
        ways.add("".join("BLR"[(1 if left else 2) if left != right else 0] for left, right in sides.tolist()))
        between = sound[:, start + length + 2000 : start + delay - 2000]
        assert float(between.abs().max()) < 1e-3
        assert float(sound[:, : start - 500].abs().max()) < 1e-3
    assert notes == {0.5, 0.75, 1.0}
    assert ways == {"BBB", "LRL"}


MIX_EFFECTS = {
    "room": (0.5, -12.0),
    "bus_compression": (-6.0, 4.0),
    "coding": (10.0,),
    "lowpass": (11_000.0,),
}


@pytest.mark.parametrize("name", MIX_EFFECTS)
def test_stems_of_a_mix_still_add_up(name):
    """What is done to each stem adds up to what is done to the mixture."""
    stems = torch.stack([white(), tone(440) * torch.linspace(0, 1, SAMPLES)], dim=1)
    values = [value(number) for number in MIX_EFFECTS[name]]
    operation = getattr(augment, name)
    apart, together = operation(stems, *values, NOISE), operation(stems.sum(dim=1, keepdim=True), *values, NOISE)
    torch.testing.assert_close(apart.sum(dim=1, keepdim=True), together, atol=1e-5, rtol=0)
    assert float((apart - stems).abs().max()) > 1e-3


def test_room_is_the_same_for_all_stems():
    stems = torch.zeros(2, 2, 2, SAMPLES)
    stems[:, 0, :, 1000], stems[:, 1, :, 2000] = 1.0, -0.5
    wet = augment.room(stems, value(0.5), value(-6.0), NOISE)
    torch.testing.assert_close(wet[:, 1, :, 2000:], -0.5 * wet[:, 0, :, 1000:-1000], atol=1e-5, rtol=0)


def test_bus_compression_turns_loud_places_down():
    """One stem's loud half turns the other stem down as well, by (1 - 1 / ratio) of what is above the threshold."""
    loud, quiet = white(), white() * 0.1
    loud[..., SAMPLES // 2 :] = 0
    stems = torch.stack([loud, quiet], dim=1)
    squeezed = augment.bus_compression(stems, value(-17.0), value(4.0), NOISE)
    above = level(loud[..., : SAMPLES // 2] + quiet[..., : SAMPLES // 2]) - level(stems.sum(dim=1)) + 17

    def second_half_over_first(y):
        return level(y[:, 1, :, -8000:]) - level(y[:, 1, :, 4000:12000])

    change = second_half_over_first(squeezed) - second_half_over_first(stems)
    assert change == pytest.approx(0.75 * above, abs=1.5)
    assert level(squeezed.sum(dim=1)) == pytest.approx(level(stems.sum(dim=1)), abs=0.01)


def test_coding_noise_is_as_loud_as_asked():
    x = white()[:, None]
    errors = []
    for ratio in (6.0, 16.0, 26.0):
        coded = augment.coding(x, value(ratio), NOISE)
        errors.append(level(coded - x) - level(x))
    assert errors[1] == pytest.approx(-16, abs=2)
    assert errors[2] == pytest.approx(-26, abs=2)


def test_coding_leaves_holes():
    x, window = white()[:, None], torch.hann_window(2048)
    coarse, whole = (
        torch.stft(y[0, 0], 2048, 1024, window=window, return_complex=True).abs()
        for y in (augment.coding(x, value(4.0), NOISE), x)
    )
    assert (coarse < 0.2 * coarse.mean()).float().mean() > 2 * (whole < 0.2 * whole.mean()).float().mean()


def test_lowpass_leaves_nothing_above():
    x = white()[:, None]
    y = augment.lowpass(x, value(11_000.0), NOISE)
    assert power_between(y, 11_000, 22_000) < power_between(x, 11_000, 22_000) - 80
    assert power_between(y, 100, 10_200) == pytest.approx(power_between(x, 100, 10_200), abs=0.05)


def test_masks():
    masked = augment.time_mask(torch.ones(2, 2, SAMPLES), value(0.5), NOISE)
    assert float((masked == 0).float().mean()) <= 0.5 * RATE / SAMPLES + 0.01
    assert all(float((row == 0).float().mean()) > 0.05 for row in masked)
    banded = torch.fft.rfft(augment.frequency_mask(white(), value(1.0), NOISE)).abs()
    for row in banded:
        gone = torch.nonzero(row[0] < 1e-3).flatten()
        assert math.log2(float(gone[-1] / gone[0])) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("tempo", "pitch"), [(1.1, 1.1), (0.9, 0.9), (1.1, 1.0), (0.9, 1.0), (1.0, 1.12), (1.0, 0.89), (1.1, 1.2)]
)
def test_retime_keeps_level_and_moves_pitch(tempo, pitch):
    length = augment.retime_length(SAMPLES, tempo, pitch)
    y = augment.retime(tone(1000, length)[0], tempo, pitch, SAMPLES)
    assert y.shape == (2, SAMPLES)
    assert frequency(y) == pytest.approx(1000 * pitch, rel=0.017)
    for part in (y[:, :4000], y, y[:, -4000:]):
        assert level(part) == pytest.approx(level(tone(1000)), abs=0.3)


@pytest.mark.parametrize(("tempo", "pitch"), [(1.1, 1.1), (1.2, 1.0), (0.8, 1.0)])
def test_retime_moves_events(tempo, pitch):
    """A burst comes earlier by the tempo, and by the 1024 samples that the phase vocoder leaves out."""
    length = augment.retime_length(SAMPLES, tempo, pitch)
    x = torch.zeros(2, length)
    x[:, 40_000:44_000] = white(4_000)[0]
    y = augment.retime(x, tempo, pitch, SAMPLES).square().sum(dim=0)
    centre = float((y * torch.arange(SAMPLES)).sum() / y.sum())
    left_out = 0 if tempo == pitch else 1024
    assert centre == pytest.approx((42_000 - left_out) / tempo, rel=0.02)


def test_stretching_keeps_the_stereo_image():
    """The right channel is the left one at half the level; it stays so."""
    mono = white(augment.retime_length(SAMPLES, 1.1, 1.0))[0, :1]
    y = augment.retime(torch.cat([mono, mono / 2]), 1.1, 1.0, SAMPLES)
    torch.testing.assert_close(y[1], y[0] / 2, atol=1e-5, rtol=0)


def test_fast_lengths():
    for samples in (1, 7, 11, 264_600, 300_001):
        length = augment.fast_length(samples)
        assert samples <= length <= max(samples * 1.016, samples + 1)
        for prime in (2, 3, 5, 7):
            while length % prime == 0:
                length //= prime
        assert length == 1


def test_noise_belongs_to_the_crop_not_to_the_batch():
    both, second = Noise([5, 6], torch.device("cpu")), Noise([6], torch.device("cpu"))
    assert torch.equal(both.normal(3, 4)[1:], second.normal(3, 4))
    assert not torch.equal(both.uniform(8)[0], both.uniform(8)[1])
    seeds = [augment.seeds_of([9], stem, effect)[0] for stem in range(3) for effect in range(20)]
    assert len(set(seeds)) == 60
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert np.all(np.array(seeds) == [augment.seeds_of([9], s, e)[0] for s in range(3) for e in range(20)])
