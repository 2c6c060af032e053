"""From spoken lines to singing: melodies, the fundamental frequency of a sung line, and its synthesis with WORLD."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from common import SAMPLE_RATE
from voices import FRAME_SECONDS, Line

FFT_SIZE = 2048
BINS = FFT_SIZE // 2 + 1
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
}
PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 3, 0, 4), (5, 4, 3, 4), (0, 2, 3, 4))
RHYTHMS = (
    (1, 1, 1, 1),
    (0.5, 0.5, 1, 1, 1),
    (1, 0.5, 0.5, 1, 1),
    (1.5, 0.5, 1, 1),
    (0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    (0.75, 0.75, 0.5, 1, 1),
    (0.5, 1, 0.5, 1, 1),
    (2, 1, 1),
    (1, 1, 2),
    (0.25, 0.25, 0.5, 0.5, 0.5, 1, 1),
    (1.5, 1.5, 1),
    (0.75, 0.25, 0.5, 0.5, 2),
)  # the lengths of notes, in beats


@dataclass(frozen=True)
class Note:
    """A sung note: when it starts and ends (seconds), its pitch as a MIDI number."""

    start: float
    end: float
    pitch: float


@dataclass(frozen=True)
class Style:
    """How a line is sung or spoken.

    Attributes:
        formants: factor by which the spectral envelope is stretched; above 1 sounds like a smaller singer.
        breath: noise added to the voice, 0 to 1.
        tilt: brightness in dB an octave above 1 kHz.
        ring: the singer's formant, dB around 3 kHz.
        vibrato: depth in semitones; ``vibrato_rate`` in Hz, ``vibrato_delay`` in seconds after the note's start.
        glide: seconds from one note to the next.
        scoop: semitones by which a note may start too low.
        drift: slow, random wandering in semitones.
        rasp: strength of the subharmonic of a rough voice, 0 to 1.
        whisper: no pitch at all.
    """

    formants: float = 1.0
    breath: float = 0.15
    tilt: float = 0.0
    ring: float = 3.0
    vibrato: float = 0.35
    vibrato_rate: float = 5.5
    vibrato_delay: float = 0.25
    glide: float = 0.09
    scoop: float = 0.8
    drift: float = 0.12
    rasp: float = 0.0
    whisper: bool = False


@dataclass
class Composer:
    """Melodies in one key and tempo: rhythms and contours come back, as they do in a song."""

    rng: np.random.Generator
    tempo: float
    low: int
    high: int
    scale: tuple[int, ...] = field(init=False)
    tonic: int = field(init=False)
    progression: tuple[int, ...] = field(init=False)
    degree: int = field(init=False)

    def __post_init__(self) -> None:
        self.scale = SCALES[str(self.rng.choice(list(SCALES), p=(0.3, 0.25, 0.1, 0.1, 0.15, 0.1)))]
        self.tonic = int(self.rng.integers(12))
        self.progression = PROGRESSIONS[self.rng.integers(len(PROGRESSIONS))]
        pitches = self.pitches()
        self.degree = int(len(pitches) * self.rng.uniform(0.3, 0.6))

    def pitches(self, below: int = 0, above: int = 0) -> list[int]:
        """The notes of the scale inside the singer's range, or so many semitones beyond it."""
        return [
            pitch for pitch in range(self.low - below, self.high + above + 1) if (pitch - self.tonic) % 12 in self.scale
        ]

    def melody(self, syllables: int, pace: float = 1.0, melisma: float = 0.12) -> list[list[Note]]:
        """Notes for every syllable of a line, usually one; they start at the first beat (time 0). A larger ``pace``
        makes longer notes."""
        rng, pitches = self.rng, self.pitches()
        beats: list[float] = []
        while len(beats) < syllables:
            beats += RHYTHMS[rng.integers(len(RHYTHMS))]
        beats = [pace * beat for beat in beats[:syllables]]
        beats[-1] = pace * float(rng.choice([1.5, 2, 2.5, 3, 4]))
        beat_seconds = 60 / self.tempo
        chords = [{(self.scale[(root + step) % len(self.scale)]) for step in (0, 2, 4)} for root in self.progression]
        result, position = [], 0.0
        for index, length in enumerate(beats):
            chord = chords[int(position / 4) % len(chords)]
            step = int(rng.choice([-3, -2, -1, 0, 1, 2, 3, 4], p=(0.05, 0.1, 0.24, 0.18, 0.24, 0.1, 0.05, 0.04)))
            self.degree = self._inside(self.degree + step, len(pitches))
            if position % 1 == 0 or index == len(beats) - 1:  # strong beats and the last note: a note of the chord
                near = sorted(range(len(pitches)), key=lambda i: (abs(i - self.degree), rng.random()))
                self.degree = next((i for i in near if (pitches[i] - self.tonic) % 12 in chord), self.degree)
            parts = int(rng.integers(2, 4)) if length * beat_seconds > 0.5 and rng.random() < melisma else 1
            notes = []
            for part in range(parts):
                start = (position + length * part / parts) * beat_seconds
                end = (position + length * (part + 1) / parts) * beat_seconds
                notes.append(Note(start, end, pitches[self.degree]))
                if part < parts - 1:
                    self.degree = self._inside(self.degree + int(rng.choice([-1, 1])), len(pitches))
            result.append(notes)
            position += length
        return result

    @staticmethod
    def _inside(degree: int, count: int) -> int:
        """Reflects a melody that leaves the range back into it."""
        span = 2 * max(count - 1, 1)
        degree %= span
        return min(degree if degree < count else span - degree, count - 1)


def transpose(melody: list[list[Note]], pitches: list[int], steps: int) -> list[list[Note]]:
    """A parallel voice: every note so many steps of the scale higher (or lower); notes outside stay at the edge."""

    def moved(note: Note) -> Note:
        index = int(np.argmin([abs(pitch - note.pitch) for pitch in pitches]))
        return Note(note.start, note.end, pitches[int(np.clip(index + steps, 0, len(pitches) - 1))])

    return [[moved(note) for note in notes] for notes in melody]


def syllables_of(line: Line) -> int:
    """How many notes a line needs: one for each vowel."""
    return sum(phoneme.kind == "vowel" for phoneme in line.phonemes)


def smooth_noise(frames: int, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Random wandering `(frames,)` with a standard deviation of 1 that changes about ``hertz`` times a second."""
    count = max(4, int(frames * FRAME_SECONDS * hertz * 2) + 4)
    points = rng.standard_normal(count)
    wave = np.interp(np.linspace(0, count - 1, frames), np.arange(count), points)
    width = max(1, int(0.25 / hertz / FRAME_SECONDS))
    return np.convolve(np.pad(wave, width, mode="edge"), np.ones(width) / width, mode="same")[width:-width]


def time_map(line: Line, onsets: list[float], end: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each moment of the sung line comes from: pairs of target and source times, both rising.

    A vowel starts on its note. The consonants before it keep their length and take the time from the vowel before;
    in a held vowel only its middle third is stretched, so that its beginning and end move as in speech.
    """
    target, source = [], []
    vowels = [index for index, phoneme in enumerate(line.phonemes) if phoneme.kind == "vowel"]
    cursor = onsets[0] - sum(p.end - p.start for p in line.phonemes[: vowels[0]])
    for phoneme in line.phonemes[: vowels[0]]:
        target.append(cursor)
        source.append(phoneme.start)
        cursor += phoneme.end - phoneme.start
    for order, index in enumerate(vowels):
        vowel = line.phonemes[index]
        last = order == len(vowels) - 1
        between = line.phonemes[index + 1 : len(line.phonemes) if last else vowels[order + 1]]
        room = (end if last else onsets[order + 1]) - onsets[order]
        lengths = [min(p.end - p.start, 0.05 if p.kind == "pause" else 0.18) for p in between]
        squeeze = 1.0 if last else min(1.0, 0.6 * room / max(sum(lengths), 1e-6))
        held = room if last else room - squeeze * sum(lengths)
        spoken = vowel.end - vowel.start
        edge = 0.35 * min(spoken, held)
        target += [onsets[order], onsets[order] + edge, onsets[order] + held - edge]
        source += [vowel.start, vowel.start + edge, vowel.end - edge]
        cursor = onsets[order] + held
        for phoneme, length in zip(between, lengths, strict=True):
            target.append(cursor)
            source.append(phoneme.start)
            cursor += squeeze * length
    target.append(cursor)
    source.append(line.phonemes[-1].end)
    pairs = np.maximum.accumulate(np.array([target, source]), axis=1)
    keep = np.concatenate([[True], np.diff(pairs[0]) > 1e-4])
    return pairs[0, keep], pairs[1, keep]


def pitch_curve(notes: list[Note], times: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """The pitch (MIDI number) at ``times`` of notes sung one after the other: glides that start early, scoops,
    vibrato that sets in late, a slow drift and the fall at the end of a line."""
    frames = len(times)
    curve = np.full(frames, float(notes[0].pitch))
    for before, note in pairwise(notes):
        glide = style.glide * rng.uniform(0.6, 1.5) * (1 + 0.05 * abs(note.pitch - before.pitch))
        middle = note.start - 0.2 * glide
        curve += (note.pitch - before.pitch) * (0.5 + 0.5 * np.tanh((times - middle) / (glide / 3)))
    for index, note in enumerate(notes):
        length = note.end - note.start
        inside = (times >= note.start) & (times < note.end)
        since = times - note.start
        legato = index > 0 and note.start - notes[index - 1].end < 0.02
        if rng.random() < (0.25 if legato else 0.7):
            depth = style.scoop * rng.uniform(0.2, 1.3)
            dip = np.clip((since + 0.1) / 0.1, 0, 1) * np.exp(-np.maximum(since, 0) / rng.uniform(0.03, 0.08))
            curve -= depth * dip * (times < note.end)
        delay = style.vibrato_delay * rng.uniform(0.6, 1.5)
        if length > delay + 0.25 and style.vibrato > 0:
            rate = style.vibrato_rate * rng.uniform(0.93, 1.07) * (1 + 0.06 * smooth_noise(frames, 2, rng))
            phase = 2 * np.pi * np.cumsum(rate) * FRAME_SECONDS + rng.uniform(0, 2 * np.pi)
            rise = np.clip((since - delay) / 0.25, 0, 1) * np.clip((note.end - times) / 0.08, 0, 1)
            curve += inside * rise * style.vibrato * rng.uniform(0.5, 1.3) * np.sin(phase)
    if rng.random() < 0.4:
        curve -= np.clip((times - notes[-1].end + 0.15) / 0.25, 0, 1.5) * rng.uniform(0.3, 3)
    curve += style.drift * smooth_noise(frames, 1.2, rng) + 0.03 * rng.standard_normal(frames)
    return curve + 0.35 * style.drift * smooth_noise(frames, 8, rng)


def envelope_at(line: Line, positions: np.ndarray, formants: float) -> tuple[np.ndarray, np.ndarray]:
    """Log power and aperiodicity `(frames, 1025)` at 44.1 kHz, read at fractional frames of a line.

    Above the highest frequency of the line's engine the spectrum goes on as noise that falls off, faster in voiced
    frames: real voices do not stop at 8 or 12 kHz.
    """
    below = np.clip(positions.astype(int), 0, len(line.f0) - 2)
    part = np.clip(positions - below, 0, 1)[:, None]
    half = line.rate / 2
    frequencies = np.linspace(0, SAMPLE_RATE / 2, BINS) / formants
    bins = line.envelope.shape[1]
    place = np.clip(frequencies / half * (bins - 1), 0, bins - 1.001)
    left, weight = place.astype(int), place % 1

    def read(table: np.ndarray) -> np.ndarray:
        columns = table[:, left] * (1 - weight) + table[:, left + 1] * weight
        return columns[below] * (1 - part) + columns[below + 1] * part

    envelope, aperiodicity = read(line.envelope), read(line.aperiodicity)
    top = 0.8 * half
    beyond = frequencies > top
    band = (frequencies > 0.6 * half) & ~beyond
    level = envelope[:, band].mean(1, keepdims=True)
    octaves = np.log2(frequencies[beyond] / (0.75 * half))
    noisy = aperiodicity[:, band].mean(1, keepdims=True) > 0.9
    decibels = np.where(noisy, 9, 15) * octaves + 12 * np.maximum(np.linspace(0, 22.05, BINS)[beyond] - 15, 0) / 7
    envelope[:, beyond] = level - decibels * np.log(10) / 10
    aperiodicity[:, beyond] = np.maximum(aperiodicity[:, beyond], 0.95)
    return envelope, aperiodicity


def level(envelope: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Evens out, by half, how loud the voiced frames are (a held note does not fade as a spoken vowel does) and keeps
    the others 9 dB below them: stretched vowels make the hiss of a consonant stand out."""
    loudness = np.logaddexp.reduce(envelope, axis=1)
    if not voiced.any():
        return envelope
    typical = np.percentile(loudness[voiced], 75)
    quieter = np.minimum(0, typical - 9 * np.log(10) / 10 - loudness)
    gain = np.where(voiced, np.clip(0.5 * (typical - loudness), -1.5, 2.0), quieter)
    window = np.hanning(9) / np.hanning(9).sum()
    return envelope + np.convolve(np.pad(gain, 4, mode="edge"), window, mode="valid")[:, None]


def colour(envelope: np.ndarray, pitch: np.ndarray, style: Style, rng: np.random.Generator) -> np.ndarray:
    """Adds brightness, the singer's formant and the small, slow changes of a live voice to a log power spectrum."""
    frequencies = np.linspace(1e-3, SAMPLE_RATE / 2, BINS)
    frames = len(envelope)
    effort = np.clip((pitch - np.median(pitch)) / 12, -1, 1) + 0.5 * smooth_noise(frames, 1, rng)
    octaves = np.clip(np.log2(frequencies / 1000), -1, 4)
    ring = np.exp(-0.5 * (np.log2(frequencies / 3000) / 0.25) ** 2)
    decibels = (style.tilt + 1.0 * effort[:, None]) * octaves + (style.ring + 2 * effort[:, None]) * ring
    decibels += (1.2 * smooth_noise(frames, 2.5, rng) + 0.5 * smooth_noise(frames, 9, rng) + 1.5 * effort)[:, None]
    return envelope + decibels * np.log(10) / 10


def swell(notes: list[Note], times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How loud (dB) a line is over time: every note is attacked and dies away a little, some swell."""
    decibels = np.zeros(len(times))
    for note in notes:
        length = max(note.end - note.start, 0.05)
        inside = (times >= note.start) & (times < note.end)
        x = np.clip((times - note.start) / length, 0, 1)
        attack = -rng.uniform(1, 6) * np.exp(-np.maximum(times - note.start, 0) / rng.uniform(0.02, 0.09))
        arch = rng.uniform(-1, 3) * np.sin(np.pi * x) if length > 0.5 else 0.0
        decibels += inside * (rng.normal(0, 1) + attack + arch - rng.uniform(0, 5) * x**2)
    release = rng.uniform(0.05, 0.35)
    decibels -= rng.uniform(6, 15) * np.clip((times - notes[-1].end + release) / release, 0, 1.5)
    return np.convolve(np.pad(decibels, 4, mode="edge"), np.ones(9) / 9, mode="valid")


def synthesise(f0: np.ndarray, envelope: np.ndarray, aperiodicity: np.ndarray, style: Style, rng: np.random.Generator):
    """WORLD synthesis `(samples,)` at 44.1 kHz, with rasp."""
    import pyworld

    floor = style.breath * np.clip(np.linspace(-0.05, 2.2, BINS), 0, 1)
    aperiodicity = np.clip(aperiodicity + (1 - aperiodicity) * floor, 1e-3, 1 - 1e-12)
    aperiodicity[f0 == 0] = 1 - 1e-12
    audio = pyworld.synthesize(
        np.ascontiguousarray(f0),
        np.exp(np.ascontiguousarray(envelope)),
        np.ascontiguousarray(aperiodicity),
        SAMPLE_RATE,
        1000 * FRAME_SECONDS,
    )
    if style.rasp > 0:
        instants = np.arange(len(audio)) / SAMPLE_RATE / FRAME_SECONDS
        strength = np.clip(smooth_noise(len(f0), 1.5, rng), 0, 1.5) * style.rasp
        phase = np.pi * np.cumsum(np.interp(instants, np.arange(len(f0)), f0)) / SAMPLE_RATE  # half the pitch
        audio = audio * (1 + np.interp(instants, np.arange(len(f0)), strength) * np.cos(phase))
    return audio.astype(np.float32)


def sing(line: Line, melody: list[list[Note]], style: Style, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """A line on a melody. Returns the audio `(samples,)` and the time, at most 0, at which it starts: its first
    consonants come before the first note."""
    onsets = [notes[0].start + float(rng.normal(0, 0.012)) for notes in melody]
    end = onsets[-1] + float(rng.uniform(0.8, 1.0)) * (melody[-1][-1].end - melody[-1][0].start)
    target, source = time_map(line, onsets, end)
    begin = min(float(target[0]), 0.0)
    times = np.arange(begin, target[-1] + 0.12, FRAME_SECONDS)
    positions = np.interp(times, target, source) / FRAME_SECONDS
    positions += 0.6 * smooth_noise(len(times), 3, rng)  # a held vowel is never quite still
    positions = np.clip(positions, 0, len(line.f0) - 1.001)
    envelope, aperiodicity = envelope_at(line, positions, style.formants)
    nearest = np.rint(positions).astype(int)
    kinds = vowel_frames(line)
    voiced = (line.voiced | kinds)[nearest]
    notes = [note for group in melody for note in group]
    pitch = pitch_curve(notes, times, style, rng)
    envelope = level(envelope, voiced) + swell(notes, times, rng)[:, None] * np.log(10) / 10
    envelope = colour(envelope, pitch, style, rng)
    aperiodicity[voiced & (aperiodicity[:, 2] > 0.9)] *= np.linspace(0.05, 1, BINS)  # vowels that speech left voiceless
    f0 = np.where(voiced & (not style.whisper), 440 * 2 ** ((pitch - 69) / 12), 0.0)
    audio = synthesise(f0, envelope, aperiodicity, style, rng)
    return fade(audio, 0.005, 0.06), begin


def vowel_frames(line: Line) -> np.ndarray:
    """Which frames of a line lie well inside a vowel; these are sung with a pitch whatever the analysis heard."""
    times = np.arange(len(line.f0)) * FRAME_SECONDS
    inside = np.zeros(len(times), bool)
    for phoneme in line.phonemes:
        if phoneme.kind == "vowel":
            margin = 0.25 * (phoneme.end - phoneme.start)
            inside |= (times > phoneme.start + margin) & (times < phoneme.end - margin)
    return inside


def speak(line: Line, style: Style, pitch: float, liveliness: float, speed: float, rng: np.random.Generator):
    """A line as speech `(samples,)` around another pitch (MIDI number); its melody is scaled by ``liveliness``."""
    return delivered(line, *straight(line, speed), style, pitch, liveliness, rng)


def rap(line: Line, grid: float, style: Style, pitch: float, liveliness: float, rng: np.random.Generator):
    """A line as rap `(samples,)`: a syllable on every step of ``grid`` seconds, some held for two. Also returns the
    time at which it starts, at most 0."""
    steps = [int(rng.choice([1, 1, 1, 2])) for _ in range(syllables_of(line))]
    starts = np.cumsum([0, *steps]) * grid
    target, source = time_map(line, list(starts[:-1]), float(starts[-1]))
    return delivered(line, target, source, style, pitch, liveliness, rng), float(target[0])


def straight(line: Line, speed: float) -> tuple[np.ndarray, np.ndarray]:
    """The time map of a line as it was spoken, faster or slower."""
    source = np.array([line.phonemes[0].start, line.phonemes[-1].end])
    return (source - source[0]) / speed, source


def delivered(line, target, source, style: Style, pitch: float, liveliness: float, rng: np.random.Generator):
    """Speech after a time map, with its own melody moved and scaled."""
    times = np.arange(target[0], target[-1] + 0.05, FRAME_SECONDS)
    positions = np.clip(np.interp(times, target, source) / FRAME_SECONDS, 0, len(line.f0) - 1.001)
    envelope, aperiodicity = envelope_at(line, positions, style.formants)
    heard = line.f0 > 0
    curve = pitch + 0.1 * smooth_noise(len(times), 4, rng)
    if heard.any():  # a short shout may be all breath
        spoken = 12 * np.log2(line.f0[heard])
        melody = np.interp(positions, np.flatnonzero(heard), spoken - np.median(spoken))
        curve += liveliness * np.clip(melody, -9, 9)
    nearest = np.rint(positions).astype(int)
    voiced = line.voiced[nearest]
    f0 = np.where(voiced & (not style.whisper), 440 * 2 ** ((curve - 69) / 12), 0.0)
    return fade(synthesise(f0, colour(envelope, curve, style, rng), aperiodicity, style, rng), 0.005, 0.03)


def inhale(seconds: float, formants: float, rng: np.random.Generator) -> np.ndarray:
    """A breath `(samples,)`: noise through the resonances of an open mouth, swelling and cut off."""
    samples = int(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE) / formants
    shape = sum(
        gain * np.exp(-0.5 * ((frequencies - centre) / width) ** 2)
        for centre, width, gain in ((600, 250, 0.5), (1500, 350, 1.0), (2700, 500, 0.6), (4500, 1500, 0.25))
    )
    noise = np.fft.irfft(spectrum * shape, samples)
    swell = np.interp(np.linspace(0, 1, samples), [0, 0.15, 0.75, 1], [0, 0.5, 1, 0])
    return (noise * swell / np.abs(noise).max()).astype(np.float32)


def fade(audio: np.ndarray, start: float, end: float) -> np.ndarray:
    """Fades so many seconds in and out, so that no line clicks."""
    first, last = (min(int(seconds * SAMPLE_RATE), len(audio) // 2) for seconds in (start, end))
    audio[:first] *= np.linspace(0, 1, first)
    audio[len(audio) - last :] *= np.linspace(1, 0, last)
    return audio
