"""What a studio does to a dry voice or an instrument group: equalisation, dynamics, space, all drawn at random.

``pedalboard`` is GPL-3: a tool of this recipe, never a dependency of the package.
"""

import numpy as np
from common import SAMPLE_RATE


def loudness(audio: np.ndarray) -> float:
    """Root mean square (dB) of the loud half of the 100 ms blocks of `(channels, samples)`."""
    block = SAMPLE_RATE // 10
    mono = (audio**2).mean(0)
    power = mono[: len(mono) // block * block].reshape(-1, block).mean(1)
    return 10 * float(np.log10(np.sort(power)[len(power) // 2 :].mean() + 1e-12))


def set_loudness(audio: np.ndarray, decibels: float) -> np.ndarray:
    """The audio with its ``loudness`` at so many dB."""
    return audio * np.float32(10 ** ((decibels - loudness(audio)) / 20))


def deess(audio: np.ndarray, threshold: float, ratio: float) -> np.ndarray:
    """Turns `(channels, samples)` down above 5.5 kHz while that band is loud; ``threshold`` in dB."""
    from pedalboard import Compressor, HighpassFilter, Pedalboard

    sharp = HighpassFilter(5500)(audio, SAMPLE_RATE)
    tamed = Pedalboard([Compressor(threshold, ratio, attack_ms=1, release_ms=40)])(sharp, SAMPLE_RATE)
    return audio - sharp + tamed


def vocal_chain(rng: np.random.Generator):
    """Equaliser, compressors and saturation for a lead or backing voice."""
    from pedalboard import (
        Compressor,
        Distortion,
        Gain,
        HighpassFilter,
        HighShelfFilter,
        LowShelfFilter,
        PeakFilter,
        Pedalboard,
    )

    chain = [HighpassFilter(float(rng.uniform(70, 160)))]
    chain.append(LowShelfFilter(float(rng.uniform(150, 300)), float(rng.normal(-1, 2))))
    for _ in range(int(rng.integers(1, 4))):
        centre = float(np.exp(rng.uniform(np.log(200), np.log(6000))))
        chain.append(PeakFilter(centre, float(rng.normal(0, 2.5)), float(rng.uniform(0.6, 2))))
    chain.append(HighShelfFilter(float(rng.uniform(6000, 10000)), float(rng.normal(2.5, 2.5))))
    for _ in range(int(rng.integers(1, 3))):
        threshold, ratio = float(rng.uniform(-28, -16)), float(rng.uniform(1.5, 5))
        chain.append(Compressor(threshold, ratio, float(rng.uniform(1, 15)), float(rng.uniform(50, 200))))
    if rng.random() < 0.35:
        drive = float(rng.uniform(3, 14))
        chain += [Gain(12), Distortion(drive), Gain(-12 - 0.6 * drive)]
    return Pedalboard(chain)


def space(rng: np.random.Generator, tempo: float, most: float = 1.0):
    """Delay in time with the song and reverb, for sends: their output is wet only."""
    from pedalboard import Delay, HighpassFilter, LowpassFilter, Pedalboard, Reverb

    delay = Pedalboard(
        [
            Delay(float(60 / tempo * rng.choice([0.25, 0.5, 0.75, 1.0])), float(rng.uniform(0.1, 0.5)), 1.0),
            HighpassFilter(float(rng.uniform(200, 600))),
            LowpassFilter(float(rng.uniform(2500, 9000))),
        ]
    )
    room = float(rng.uniform(0.15, 0.95) * most)
    reverb = Pedalboard(
        [
            Reverb(room_size=room, damping=float(rng.uniform(0.2, 0.9)), wet_level=1.0, dry_level=0.0, width=1.0),
            HighpassFilter(float(rng.uniform(100, 400))),
        ]
    )
    return delay, reverb


def produce_voice(dry: np.ndarray, tempo: float, rng: np.random.Generator) -> np.ndarray:
    """A stereo bus of dry voices `(2, samples)` as on a record: equalised, compressed, de-essed, with echo and hall."""
    from pedalboard import HighpassFilter, LowpassFilter, Pedalboard

    voice = set_loudness(dry, -22).astype(np.float32)
    voice = set_loudness(vocal_chain(rng)(voice, SAMPLE_RATE), -20)
    if rng.random() < 0.7:
        voice = deess(voice, float(rng.uniform(-36, -26)), float(rng.uniform(2, 5)))
    if rng.random() < 0.04:  # through a telephone
        voice = Pedalboard([HighpassFilter(400), HighpassFilter(400), LowpassFilter(3500)])(voice, SAMPLE_RATE)
    delay, reverb = space(rng, tempo)
    result = voice.copy()
    if rng.random() < 0.45:
        echo = delay(voice, SAMPLE_RATE)
        if rng.random() < 0.5:
            echo = echo * np.array([[1.0], [0.4]], np.float32)
        result += np.float32(rng.uniform(0.03, 0.25)) * echo
    if rng.random() < 0.9:
        wet = reverb(result, SAMPLE_RATE)
        gap = loudness(wet) - loudness(voice)
        result += np.float32(10 ** ((rng.uniform(-26, -9) - gap) / 20)) * wet
    return finish(result, -20 + float(rng.normal(0, 1.5)))


def finish(audio: np.ndarray, decibels: float) -> np.ndarray:
    """No DC, the wanted loudness, and rounded peaks: nothing above 0.95."""
    from pedalboard import HighpassFilter

    audio = set_loudness(HighpassFilter(25)(audio.astype(np.float32), SAMPLE_RATE), decibels)
    loud = np.abs(audio) > 0.6
    audio[loud] = np.sign(audio[loud]) * (0.6 + 0.35 * np.tanh((np.abs(audio[loud]) - 0.6) / 0.35))
    return audio


def place(bus: np.ndarray, audio: np.ndarray, start: float, pan: float = 0.0, gain: float = 1.0) -> None:
    """Adds mono `(samples,)` or stereo `(2, samples)` to a bus `(2, samples)` from ``start`` seconds on; ``pan`` from
    -1 (left) to 1."""
    first = round(start * SAMPLE_RATE)
    skip = max(0, -first)
    stereo = np.atleast_2d(audio)[:, skip:]
    first = max(first, 0)
    length = min(stereo.shape[1], bus.shape[1] - first)
    if length > 0:
        angle = (pan + 1) * np.pi / 4
        sides = gain * np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])
        bus[:, first : first + length] += (sides * stereo[:, :length]).astype(np.float32)
