"""Composes pop, rock, funk, electronic and other arrangements as MIDI notes, group by group.

Nothing is quoted: chord progressions, basslines, melodies, drum fills and instruments are drawn at random inside the
habits of a style. General MIDI's voices (choirs, "voice" leads and pads) are never used: the music is to hold none.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DRUM_KEYS = {"kick": 36, "snare": 38, "rim": 37, "clap": 39, "hat": 42, "open": 46, "ride": 51, "crash": 49,
"low": 45, "mid": 47, "high": 50, "shaker": 70, "tambourine": 54, "conga": 63, "cowbell": 56}  # fmt: skip
PADS = (48, 49, 50, 51, 88, 89, 90, 92, 93, 95)
SYNTHS = (62, 63, 80, 81, 82, 84, 86, 87)


@dataclass(frozen=True)
class Genre:
    """The habits of a style of music; genres.toml lists them. Instruments are General MIDI programs, from 0.

    Attributes:
        tempo: slowest and fastest, in beats a minute.
        drums: patterns by drum, one letter for each sixteenth of a bar: x hit, X accent, o perhaps, . rest.
        bass_manner: eighths, root, octaves, syncopated, walking, long or offbeat.
        comping: how chords are played: held, eighths, offbeat, sixteenths, power, arpeggio or stabs.
        swing: how late every second sixteenth is, as a part of a sixteenth.
        kits: 0 standard, 8 room, 16 power, 24 electronic, 25 TR-808, 40 brushes.
        pads: chance of a pad.
        distorted: two guitars play power chords, one on each side.
        pumping: how far every kick ducks the other instruments, 0 to 1.
    """

    tempo: list[int]
    drums: list[dict[str, str]]
    bass: list[int]
    bass_manner: list[str]
    chords: list[int]
    comping: list[str]
    leads: list[int]
    modes: list[str] = field(default_factory=lambda: ["major", "minor"])
    swing: float = 0.0
    kits: list[int] = field(default_factory=lambda: [0])
    pads: float = 0.5
    distorted: bool = False
    pumping: float = 0.0


GENRES = {
    name: Genre(**habits)
    for name, habits in tomllib.loads(Path(__file__).with_name("genres.toml").read_text(encoding="utf-8")).items()
}
MODES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
}
FORM = (
    ("intro", 4),
    ("verse", 8),
    ("chorus", 8),
    ("verse", 8),
    ("chorus", 8),
    ("bridge", 8),
    ("chorus", 8),
    ("outro", 4),
)  # sections and their bars


@dataclass(frozen=True)
class Event:
    """A note: start and length in seconds, MIDI key, velocity."""

    start: float
    length: float
    key: int
    velocity: int


@dataclass
class Part:
    """What one player plays: a General MIDI program (or drum kit) and the notes."""

    name: str
    program: int
    events: list[Event] = field(default_factory=list)


class Arrangement:
    """A whole song, composed on construction: ``parts`` to be rendered, ``kicks`` in seconds, ``seconds`` of length."""

    def __init__(self, genre: str, rng: np.random.Generator, bars: int | None = None):
        self.genre, self.rng = GENRES[genre], rng
        self.tempo = float(rng.uniform(*self.genre.tempo))
        self.step = 60 / self.tempo / 4
        self.mode = MODES[str(rng.choice(self.genre.modes))]
        self.tonic = int(rng.integers(12))
        self.swing = self.genre.swing * float(rng.uniform(0.6, 1.4))
        self.loose = float(rng.uniform(0.002, 0.012))
        self.drums = Part("drums", int(rng.choice(self.genre.kits)))
        self.bass = Part("bass", int(rng.choice(self.genre.bass)))
        self.parts = [self.drums, self.bass]
        chords = rng.choice(self.genre.chords, size=min(2, len(self.genre.chords)), replace=False)
        self.chords = [self._part(f"chords{i}", int(program)) for i, program in enumerate(chords)]
        if self.genre.distorted:  # the same riff played twice, for left and right
            self.chords = [self._part("guitar_left", int(chords[0])), self._part("guitar_right", int(chords[0]))]
        self.pad = self._part("pad", int(rng.choice(PADS))) if rng.random() < self.genre.pads else None
        self.lead = self._part("lead", int(rng.choice(self.genre.leads)))
        self.arpeggio = self._part("arpeggio", int(rng.choice((*SYNTHS, 11, 45, 46)))) if rng.random() < 0.35 else None
        self.kicks: list[float] = []
        self.bar = 0
        self.sections: dict[str, dict] = {}
        left = bars
        for name, length in FORM:
            count = length if left is None else min(length, left)
            self._section(name, count)
            left = None if left is None else left - count
        self.seconds = self.bar * 16 * self.step + 3

    def _part(self, name: str, program: int) -> Part:
        part = Part(name, program)
        self.parts.append(part)
        return part

    def _add(self, part: Part, step: float, length: float, key: int, velocity: float) -> None:
        """A note at so many sixteenths, played by a human: not quite in time, not quite even."""
        late = self.swing if round(step) % 2 else 0.0
        start = max(0.0, (step + late) * self.step + float(self.rng.normal(0, self.loose)))
        loud = int(np.clip(velocity + self.rng.normal(0, 6), 12, 127))
        part.events.append(Event(start, max(length * self.step, 0.03), int(np.clip(key, 0, 127)), loud))
        if part is self.drums and key == DRUM_KEYS["kick"]:
            self.kicks.append(start)

    def _section(self, name: str, bars: int) -> None:
        rng = self.rng
        if name not in self.sections:  # a section that comes back is the same, played anew
            degrees = (0, *rng.choice([1, 2, 3, 4, 5, 3, 4, 5], size=3))
            self.sections[name] = {
                "degrees": [int(degree) for degree in degrees],
                "drums": self.genre.drums[rng.integers(len(self.genre.drums))],
                "bass": str(rng.choice(self.genre.bass_manner)),
                "comping": [str(rng.choice(self.genre.comping)) for _ in self.chords],
                "motif": self._motif(),
                "seed": int(rng.integers(2**31)),
            }
        section = self.sections[name]
        full = {"intro": 0.5, "verse": 0.7, "chorus": 1.0, "bridge": 0.6, "outro": 0.5}[name]
        drums_in = name in {"verse", "chorus"} or rng.random() < 0.5
        lead_in = (name == "chorus" and rng.random() < 0.6) or (name in {"intro", "bridge"} and rng.random() < 0.6)
        for index in range(bars):
            first = 16 * self.bar
            degree = section["degrees"][index % 4]
            last = index == bars - 1
            if drums_in:
                self._drum_bar(section["drums"], first, full, crash=index == 0, fill=last)
            if name != "intro" or drums_in:
                self._bass_bar(section["bass"], first, degree, section["degrees"][(index + 1) % 4], full)
            for order, (part, manner) in enumerate(zip(self.chords, section["comping"], strict=True)):
                if self.genre.distorted:
                    manner = section["comping"][0]
                if order == 0 or full > 0.6 or self.genre.distorted:
                    # The same seed, so that both guitars play the same rhythm.
                    self._chord_bar(
                        part, manner, first, degree, full, np.random.default_rng(section["seed"] + index % 2)
                    )
            if self.pad and (full == 1.0 or name == "bridge" or rng.random() < 0.2):
                for key in self._chord(degree, 60):
                    self._add(self.pad, first, 15.5, key, 62)
            if self.arpeggio and name in {"chorus", "bridge", "intro"}:
                self._chord_bar(
                    self.arpeggio, "arpeggio", first, degree, full, np.random.default_rng(section["seed"]), 12
                )
            if lead_in and index % 4 != 3:
                self._lead_bar(section["motif"], first, degree)
            self.bar += 1

    def _key(self, degree: int, base: int) -> int:
        """The key of a scale degree (any integer) at or above ``base``, which is moved to the tonic."""
        octave, index = divmod(degree, 7)
        return base + (self.tonic - base) % 12 + self.mode[index] + 12 * octave

    def _chord(self, degree: int, base: int) -> list[int]:
        """A chord on a degree, inverted so that it stays near ``base``."""
        size = 4 if self.genre.swing > 0.1 else 3
        keys = [self._key(degree + 2 * third, base - 12) for third in range(size)]
        return sorted(key - 12 if key > base + 10 else key + 12 if key < base - 4 else key for key in keys)

    def _drum_bar(self, pattern: dict[str, str], first: int, full: float, crash: bool, fill: bool) -> None:
        rng = self.rng
        filled = 16 if not fill or rng.random() < 0.25 else int(rng.choice([8, 12]))
        for name, letters in pattern.items():
            for step, letter in enumerate(letters[:filled]):
                if letter == "." or (letter == "o" and rng.random() < 0.5):
                    continue
                accent = {"X": 112, "x": 88, "o": 55}[letter] * (0.75 + 0.25 * full)
                soft = 0.78 if name in {"hat", "shaker", "ride"} and step % 4 else 1.0
                self._add(self.drums, first + step, 1, DRUM_KEYS[name], accent * soft)
        for step in range(filled, 16):
            if rng.random() < 0.8:
                name = ("snare", "high", "mid", "low")[min(3, int((step - filled) / max(16 - filled, 1) * 4))]
                self._add(self.drums, first + step, 1, DRUM_KEYS[name], 85 + 2 * step)
        if crash and rng.random() < 0.8:
            self._add(self.drums, first, 4, DRUM_KEYS["crash"], 105)

    def _bass_bar(self, manner: str, first: int, degree: int, following: int, full: float) -> None:
        rng, root = self.rng, self._key(degree, 28)
        root -= 12 if root > 43 else 0
        loud = 80 + 20 * full
        if manner == "long":
            self._add(self.bass, first, 14, root, loud)
        elif manner == "root":
            for step, length in ((0, 6), (6, 2), (8, 6), (14, 2)):
                if step in (0, 8) or rng.random() < 0.6:
                    self._add(self.bass, first + step, length * 0.9, root, loud)
        elif manner in {"eighths", "offbeat"}:
            for step in range(0, 16, 2):
                if manner == "eighths" or step % 4 == 2:
                    self._add(self.bass, first + step, 1.7, root, loud - 8 * (step % 4 != 0))
        elif manner == "octaves":
            for step in range(0, 16, 2):
                self._add(self.bass, first + step, 1.4, root + 12 * (step % 4 == 2), loud)
        elif manner == "walking":
            target = self._key(following, 28)
            for beat, key in enumerate((root, self._key(degree + 2, 28), self._key(degree + 4, 28), target - 1)):
                self._add(self.bass, first + 4 * beat, 3.6, key, loud)
        else:
            steps = [0, *sorted(rng.choice(np.arange(2, 16), size=int(rng.integers(3, 7)), replace=False))]
            for step, after in zip(steps, [*steps[1:], 16], strict=True):
                key = root + int(rng.choice([0, 0, 0, 12, 7, 10 if 10 in self.mode else 0]))
                self._add(self.bass, first + int(step), 0.8 * min(after - step, 4), key, loud - 10 * (step % 4 != 0))

    def _chord_bar(self, part: Part, manner: str, first: int, degree: int, full: float, same, raised: int = 0) -> None:
        keys = self._chord(degree, 58 + raised)
        loud = 62 + 25 * full
        if manner == "power":
            root = self._key(degree, 40)
            root -= 12 if root > 50 else 0
            muted = same.random() < 0.5
            for step in range(0, 16, 2):
                if step == 0 or same.random() < 0.8:
                    for key in (root, root + 7, root + 12):
                        self._add(part, first + step, 1.2 if muted and step % 8 else 2.1, key, loud + 10)
        elif manner == "arpeggio":
            order = same.permutation(len(keys))
            every = 1 if raised else 2
            for step in range(0, 16, every):
                self._add(part, first + step, 1.5 * every, keys[order[step // every % len(keys)]], loud - 5)
        else:
            hits = {
                "held": [(0, 15.5)],
                "eighths": [(step, 1.8) for step in range(0, 16, 2)],
                "offbeat": [(step, 1.2) for step in range(2, 16, 4)],
                "sixteenths": [(step, 0.7) for step in range(16) if same.random() < 0.65],
                "stabs": [(int(s), 1.5) for s in sorted(same.choice(16, size=int(same.integers(2, 5)), replace=False))],
            }[manner]
            for step, length in hits:
                for spread, key in enumerate(keys):  # a strummed chord is not struck at once
                    self._add(part, first + step + 0.06 * spread, length, key, loud - 8 * (step % 4 != 0))

    def _motif(self) -> list[tuple[int, int, int]]:
        """A bar of melody: steps, lengths and degrees above the chord's root."""
        rng, step, degree, notes = self.rng, 0, int(self.rng.integers(0, 5)), []
        while step < 16:
            length = int(rng.choice([1, 2, 2, 3, 4, 6]))
            if rng.random() < 0.8:
                notes.append((step, min(length, 16 - step), degree))
            degree = int(np.clip(degree + rng.choice([-2, -1, -1, 0, 1, 1, 2, 4]), -3, 9))
            step += length
        return notes

    def _lead_bar(self, motif: list[tuple[int, int, int]], first: int, degree: int) -> None:
        for step, length, above in motif:
            self._add(self.lead, first + step, 0.9 * length, self._key(degree % 3 + above, 64), 92)
