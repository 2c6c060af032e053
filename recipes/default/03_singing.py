"""Step 3: singing, rap and speech by synthetic singers, from free voices.

    python recipes/default/03_singing.py --output DATA --minutes 60

Needs Debian's ``espeak-ng`` and ``flite`` and the packages of requirements.txt. Some of the singers have the voices of
real speakers, whose recordings are in a Debian package, others those of real singers: voice banks out of repositories
that voices.tsv names. The lines of a voice are kept in voice_bank/ as WORLD analyses; each take sings some of them on
new melodies, with doubles and harmonies, and is processed as on a record. The singers share voices, but each has a body
size (formants), a range and manners of its own. Writes

    singing/<singer>/<take>.flac              for training: 44.1 kHz stereo, silent gaps included
    validation/singing/<singer>/<take>.flac   singers whose voices are in no training take; six minutes

Takes are drawn from seeds of the singer's and the take's names: a run continues where the last one stopped, and two
runs make the same songs.
"""

import shutil
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import soundfile
from common import (
    SAMPLE_RATE,
    Repository,
    audio_files,
    debian_package,
    minutes,
    parser,
    repositories_option,
    rows,
    seed_of,
    write,
)
from lyrics import ADLIBS, ENGLISH, FOREIGN, RAP, VOCALISE
from production import place, produce_voice, set_loudness
from singing import Composer, Note, Style, inhale, rap, sing, speak, syllables_of, transpose
from voices import BANK_FILES, BANKS, Line, Voice, recordings, spoken, vowel_onsets


def blend(**weights: float) -> Voice:
    """A Kokoro voice from weighted style vectors."""
    name = "-".join(f"{name.split('_')[1]}{round(100 * weight)}" for name, weight in weights.items())
    return Voice(name, "kokoro", tuple(weights.items()))


ALPHA, GONGITSUNE, TEBUKURO = blend(jf_alpha=1), blend(jf_gongitsune=1), blend(jf_tebukuro=1)
KUMO, NEZUMI = blend(jm_kumo=1), blend(jf_nezumi=1)
JOE, RMS, SLT, AWB = Voice("joe", "piper"), Voice("rms", "flite"), Voice("slt", "flite"), Voice("awb", "flite")


@dataclass(frozen=True)
class Singer:
    """A synthetic singer: a voice, a range (MIDI numbers) and a body size (``formants``, see `singing.Style`)."""

    name: str
    voice: Voice
    low: int
    high: int
    formants: float = 1.0
    breath: float = 0.15
    tilt: float = 0.0
    rasp: float = 0.0

    def style(self, rng: np.random.Generator) -> Style:
        """How this singer sings one take; some takes are tuned hard, as by a machine."""
        own = np.random.default_rng(seed_of("style", self.name))
        style = Style(
            formants=self.formants * float(np.exp(rng.normal(0, 0.01))),
            breath=float(np.clip(self.breath + rng.normal(0, 0.06), 0.03, 0.8)),
            tilt=self.tilt + float(rng.normal(0, 0.8)),
            ring=float(own.uniform(1, 6) + rng.normal(0, 1)),
            vibrato=float(own.uniform(0.25, 0.9)),
            vibrato_rate=float(own.uniform(4.8, 6.6)),
            vibrato_delay=float(own.uniform(0.05, 0.3)),
            glide=float(own.uniform(0.05, 0.16)),
            scoop=float(own.uniform(0.2, 1.8)),
            drift=float(own.uniform(0.06, 0.2)),
            rasp=self.rasp * float(rng.uniform(0, 1)),
        )
        if rng.random() < 0.15:
            style = replace(style, vibrato=0.0, glide=0.02, scoop=0.1, drift=0.02)
        return style


SINGERS = [
    Singer("joe-baritone", JOE, 43, 62),
    Singer("alpha-mezzo", ALPHA, 55, 74),
    Singer("kumo-baritone", KUMO, 41, 60),
    Singer("slt-alto", SLT, 53, 71),
    Singer("joe-tenor", JOE, 48, 69, 1.06, tilt=1.0, rasp=0.25),
    Singer("gongitsune-soprano", GONGITSUNE, 59, 79, 1.05),
    Singer("rms-baritone", RMS, 42, 61, tilt=2.0),
    Singer("tebukuro-alto", TEBUKURO, 53, 72, 0.95, breath=0.3),
    Singer("kumo-tenor", KUMO, 47, 68, 1.08, tilt=1.0),
    Singer("alpha-kumo-tenor", blend(jf_alpha=0.4, jm_kumo=0.6), 48, 69, 0.97),
    Singer("joe-bass", JOE, 36, 55, 0.88, tilt=-1.0),
    Singer("alpha-soprano", ALPHA, 60, 81, 1.1, tilt=-1.0),
    Singer("gongitsune-tebukuro-mezzo", blend(jf_gongitsune=0.5, jf_tebukuro=0.5), 55, 75),
    Singer("joe-falsetto", JOE, 57, 76, 1.1, breath=0.5, tilt=-3.0),
    Singer("slt-soprano", SLT, 58, 78, 1.08),
    Singer("kumo-rock", KUMO, 45, 66, 0.96, tilt=2.0, rasp=0.6),
    Singer("tebukuro-kumo-contralto", blend(jf_tebukuro=0.6, jm_kumo=0.4), 48, 67, 0.94),
    Singer("rms-rock", RMS, 46, 67, 1.05, tilt=3.0, rasp=0.5),
    Singer("alpha-child", ALPHA, 60, 78, 1.2, breath=0.25),
    Singer("kumo-bass", KUMO, 34, 54, 0.86),
    Singer("alpha-tebukuro-rock", blend(jf_alpha=1.3, jf_tebukuro=-0.3), 54, 74, 0.97, tilt=2.0, rasp=0.45),
    Singer("kumo-falsetto", KUMO, 55, 74, 1.08, breath=0.45, tilt=-3.0),
    Singer("gongitsune-breathy", GONGITSUNE, 54, 71, 0.96, breath=0.6, tilt=-1.0),
    Singer("joe-smooth", JOE, 45, 65, 0.95, breath=0.35),
    Singer("slt-dark", SLT, 50, 68, 0.9),
    Singer("kumo-gongitsune-countertenor", blend(jm_kumo=0.5, jf_gongitsune=0.5), 52, 73, 1.02, breath=0.3),
    Singer("rms-bass", RMS, 37, 56, 0.9),
    Singer("tebukuro-soprano", TEBUKURO, 59, 79, 1.08),
]
SINGERS += [
    Singer(f"recorded-{language}-{register}", Voice(language, "recorded"), low, low + 19, formants, rasp=rasp)
    for language, registers in {
        "ro": (("mezzo", 54, 1.0, 0.0), ("alto", 50, 0.93, 0.3)),
        "es": (("soprano", 58, 1.04, 0.0), ("mezzo", 55, 0.97, 0.2)),
        "ru": (("baritone", 43, 1.0, 0.0), ("rock", 48, 1.06, 0.4)),
        "fr": (("tenor", 46, 1.03, 0.0), ("bass", 38, 0.92, 0.0)),
        "bg": (("bass", 39, 0.97, 0.2), ("tenor", 47, 1.06, 0.2)),
        "el": (("alto", 53, 0.97, 0.0), ("soprano", 59, 1.06, 0.0)),
        "be": (("mezzo", 56, 1.0, 0.0), ("rock", 53, 0.96, 0.4)),
        "ca": (("baritone", 42, 0.97, 0.0), ("countertenor", 52, 1.05, 0.1)),
    }.items()
    for register, low, formants, rasp in registers
]
SINGERS += [
    # A bank's timbre stays natural within some seven semitones of its pitch.
    Singer(name, Voice(bank, "bank"), BANKS[bank] - 7, BANKS[bank] + 8, formants, breath, tilt, rasp)
    for name, bank, formants, breath, tilt, rasp in (
        ("alys-mezzo", "alys/C4", 1.0, 0.1, 0.0, 0.0),
        ("scottpoid-tenor", "scottpoid/A3", 1.0, 0.1, 0.0, 0.0),
        ("ibuki-baritone", "ibuki/C3", 1.0, 0.1, 0.0, 0.0),
        ("yuki-mezzo", "yuki", 1.0, 0.1, 0.0, 0.0),
        ("kumi-soprano", "kumi-registers/_Core_D5", 1.0, 0.1, 0.0, 0.0),
        ("dorodoro-alto", "dorodoro", 1.0, 0.1, 0.0, 0.0),
        ("ibuki-high", "ibuki-registers/F4", 1.03, 0.1, 1.0, 0.2),
        ("kumi-belt", "kumi-strong/_Strong_High", 1.0, 0.05, 1.0, 0.0),
        ("scottpoid-rock", "scottpoid/C4", 1.05, 0.1, 2.0, 0.4),
        ("alys-words", "alys-words/ALYS_DB_002_JPN_UTAU_COMPLETE", 0.97, 0.25, 0.0, 0.0),
        ("erithacus-baritone", "erithacus", 1.0, 0.1, 0.0, 0.0),
        ("kumi-alto", "kumi-registers/_Core_A3", 0.96, 0.15, 0.0, 0.0),
        ("ibuki-bass", "ibuki-registers/A2", 0.96, 0.1, 0.0, 0.0),
        ("alys-soprano", "alys/A4", 1.03, 0.1, -1.0, 0.0),
        ("dorodoro-dark", "dorodoro", 0.93, 0.35, -1.0, 0.0),
        ("yuki-bright", "yuki", 1.07, 0.2, 1.0, 0.0),
        ("ibuki-tenor", "ibuki-registers/B3", 1.0, 0.15, 0.0, 0.0),
        ("kumi-rock", "kumi-strong/_Strong_Low", 0.97, 0.1, 1.0, 0.35),
        ("scottpoid-bass", "scottpoid/E3", 0.95, 0.2, 0.0, 0.0),
        ("alys-breathy", "alys/E4", 0.96, 0.4, -1.0, 0.0),
        ("kumi-mezzo", "kumi-registers/_Core", 1.04, 0.2, 0.0, 0.0),
        ("erithacus-tenor", "erithacus", 1.07, 0.25, 1.0, 0.2),
    )
]
VALIDATION_SINGERS = [
    Singer("nezumi-mezzo", NEZUMI, 55, 74),
    Singer("awb-baritone", AWB, 43, 63, tilt=1.0),
    Singer("nezumi-soprano", NEZUMI, 59, 79, 1.09, breath=0.3),
    Singer("awb-tenor", AWB, 48, 68, 1.06, rasp=0.2),
]
SHORTEST_SECONDS = 4.0
VALIDATION_MINUTES = 6.0
RECORDINGS, SHORTEST_RECORDING = "tuxpaint-stamps-default", 1.2  # the Debian package; seconds
MANNERS = {"song": 0.58, "ballad": 0.14, "rap": 0.13, "vocalise": 0.09, "speech": 0.06}


class Take:
    """One recording of a singer: a lead and a backing bus that lines are placed on."""

    def __init__(self, singer: Singer, number: int, seconds: float, bank: Path):
        self.singer, self.bank, self.number = singer, bank, number
        self.rng = np.random.default_rng(seed_of("take", singer.name, number))
        self.manner = str(self.rng.choice(list(MANNERS), p=list(MANNERS.values())))
        if singer.voice.engine == "bank" and self.manner in {"rap", "speech"}:
            self.manner = "song"  # its syllables were sung
        self.tempo = float(self.rng.uniform(62, 92) if self.manner in {"ballad", "rap"} else self.rng.uniform(85, 160))
        self.style = singer.style(self.rng)
        self.composer = Composer(self.rng, self.tempo, singer.low, singer.high)
        self.seconds = seconds
        self.bus = np.zeros((2, int((seconds + 14) * SAMPLE_RATE)), np.float32)

    def line(self, texts: list[str], language: str = "en-us") -> Line:
        """A random line out of ``texts``. Every voice speaks its own choice of them, a growing one, so that the bank
        is used well; a real one has its own lines, in its own language."""
        if self.singer.voice.engine in {"recorded", "bank"}:
            for text in self.rng.permutation(recordings(self.singer.voice, self.bank)):
                try:
                    return spoken(self.singer.voice, str(text), "", self.bank)
                except ValueError:  # a recording without a syllable
                    continue
        own = np.random.default_rng(seed_of("lines", self.singer.voice.name)).permutation(len(texts))
        text = texts[own[self.rng.integers(min(len(texts), 6 + 3 * self.number))]]
        return spoken(self.singer.voice, text, language, self.bank)

    def lyric(self) -> Line:
        """A line of the take: mostly English, now and then another language that the engine can say."""
        if self.singer.voice.engine == "kokoro" and self.rng.random() < 0.15:
            language = str(self.rng.choice(list(FOREIGN)))
            return self.line(FOREIGN[language], language)
        return self.line(ENGLISH)

    def gap(self) -> float:
        """Seconds until the next line starts: often a beat or two, sometimes bars in which nobody sings."""
        beats = self.rng.choice([0, 1, 2, 4, 8], p=(0.25, 0.3, 0.25, 0.14, 0.06))
        return float(beats) * 60 / self.tempo

    def lead_in(self) -> float:
        """Seconds before anybody sings."""
        return float(self.rng.uniform(0, min(3.0, self.seconds / 4)))

    def next_beat(self, seconds: float) -> float:
        beat = 60 / self.tempo
        return float(np.ceil(seconds / beat + 0.25) * beat)

    def add(self, bus: np.ndarray, audio: np.ndarray, start: float, pan: float = 0.0, decibels: float = 0.0) -> None:
        """Places a mono line at a singer's level."""
        placed = set_loudness(audio[None], -22 + decibels + float(self.rng.normal(0, 0.8)))
        place(bus, placed, start, pan)

    def sung(self, line: Line, melody: list[list[Note]], at: float, layers: str = "") -> float:
        """Sings a line at a time; ``layers`` may hold d (doubles), h (harmonies). Returns the line's end."""
        rng = self.rng
        audio, begin = sing(line, melody, self.style, rng)
        self.add(self.bus, audio, at + begin, float(rng.normal(0, 0.03)))
        if rng.random() < 0.6 and at + begin > 0.6:
            length = float(rng.uniform(0.2, 0.5))
            breath = inhale(length, self.style.formants, rng)
            place(self.bus, breath, at + begin - length - 0.03, 0, 10 ** (rng.uniform(-50, -36) / 20))
        others: list[tuple[list[list[Note]], float]] = []
        if "d" in layers:
            others += [(melody, rng.uniform(-9, -3)) for _ in range(int(rng.integers(1, 4)))]
        if "h" in layers:
            steps = rng.choice([2, -2, -3, 4, 7, -7], size=int(rng.integers(1, 4)), replace=False)
            pitches = self.composer.pitches(below=7, above=5)
            others += [(transpose(melody, pitches, int(step)), rng.uniform(-11, -4)) for step in steps]
        for index, (notes, decibels) in enumerate(others):
            looser = replace(self.style, formants=self.style.formants * float(np.exp(rng.normal(0, 0.03))), drift=0.15)
            audio, begin = sing(line, notes, looser, rng)
            side = float(rng.uniform(0.2, 0.95)) * (1 if index % 2 else -1)
            late = float(rng.normal(0.01, 0.018))
            self.add(self.bus, audio, at + begin + late, side, float(decibels))
        return at + melody[-1][-1].end

    def song(self) -> None:
        """Verses and a chorus that comes back with the same words and notes, doubled and in harmony."""
        rng = self.rng
        slow = self.manner == "ballad"
        pace = 1.0 if slow or self.tempo > 120 or rng.random() < 0.3 else 0.5
        chorus = [self.lyric() for _ in range(2)]
        chorus = [(line, self.composer.melody(syllables_of(line), pace)) for line in (*chorus, chorus[0])]
        layers = str(rng.choice(["", "d", "dh", "h"], p=(0.2, 0.3, 0.35, 0.15)))
        at, sung = self.next_beat(self.lead_in()), 0
        while at < self.seconds:
            if sung % 7 >= 4:
                line, melody = chorus[sung % 7 - 4]
                end = self.sung(line, melody, at, layers)
            else:
                line = self.lyric()
                melody = self.composer.melody(syllables_of(line), pace, 0.2 if slow else 0.1)
                end = self.sung(line, melody, at, "d" if rng.random() < 0.15 else "")
            sung += 1
            gap = self.gap()
            if gap > 1.2 and rng.random() < 0.5 and self.singer.voice.engine != "bank":
                self.adlib(end + 0.2)
            at = self.next_beat(end + gap)

    def adlib(self, at: float) -> None:
        """A short shout, or a whisper, at the side."""
        line = self.line(ADLIBS)
        style = replace(self.style, whisper=bool(self.rng.random() < 0.3))
        pitch = float(self.rng.uniform(self.singer.low + 5, self.singer.high - 4))
        audio = speak(line, style, pitch, 1.3, 1.0, self.rng)
        self.add(self.bus, audio, at, float(self.rng.uniform(-0.9, 0.9)), float(self.rng.uniform(-10, -4)))

    def vocalise(self) -> None:
        """Oohs, aahs and la-las in three or four parts."""
        at = self.next_beat(self.lead_in())
        while at < self.seconds:
            line = self.line(VOCALISE)
            melody = self.composer.melody(syllables_of(line), 1.0, 0.15)
            end = self.sung(line, melody, at, "hd" if self.rng.random() < 0.7 else "")
            at = self.next_beat(end + self.gap())

    def rap(self) -> None:
        """Syllables on a grid of sixteenths (or triplets) with little melody, some lines doubled."""
        rng = self.rng
        grid = 60 / self.tempo / float(rng.choice([3, 4, 4]))
        pitch = self.singer.low + float(rng.uniform(4, 9))
        at = self.next_beat(self.lead_in())
        while at < self.seconds:
            line = self.line(RAP + ENGLISH[:20])
            liveliness = float(rng.uniform(0.4, 1.1))
            length = 0.0
            for layer in range(2 if rng.random() < 0.25 else 1):
                audio, begin = rap(line, grid, self.style, pitch + float(rng.normal(0, 0.5)), liveliness, rng)
                side, quieter = (0.0, 0.0) if layer == 0 else (float(rng.uniform(-0.8, 0.8)), -6.0)
                self.add(self.bus, audio, at + begin, side, quieter)
                length = max(length, begin + len(audio) / SAMPLE_RATE)
            if rng.random() < 0.2:
                self.adlib(at + length)
            at = self.next_beat(at + length + float(rng.choice([0, 0, 0.5, 2])) * 60 / self.tempo)

    def speech(self) -> None:
        """Plain speech, some lines whispered."""
        rng = self.rng
        at = float(rng.uniform(0.2, 1))
        while at < self.seconds:
            style = replace(self.style, whisper=bool(rng.random() < 0.15))
            audio = speak(
                self.lyric(), style, self.singer.low + float(rng.uniform(4, 8)), float(rng.uniform(0.8, 1.2)),
                float(rng.uniform(0.9, 1.25)), rng,
            )  # fmt: skip
            self.add(self.bus, audio, at)
            at += len(audio) / SAMPLE_RATE + float(rng.choice([0.2, 0.5, 1.0, 2.5]))

    def render(self) -> np.ndarray:
        """The finished take `(2, samples)`."""
        {"rap": self.rap, "speech": self.speech, "vocalise": self.vocalise}.get(self.manner, self.song)()
        sounding = np.flatnonzero(np.abs(self.bus).max(0) > 1e-4)
        dry = self.bus[:, : sounding[-1] + 3 * SAMPLE_RATE]
        return produce_voice(dry, self.tempo, self.rng)


def fetch_recordings(debs: Path, bank: Path) -> None:
    """Real speakers: what they say about the pictures of Tux Paint, as ``bank``/recordings/<language>/<line>.ogg."""
    for voice in dict.fromkeys(singer.voice for singer in SINGERS if singer.voice.engine == "recorded"):
        folder, ending = bank / "recordings" / voice.name, f"_desc_{voice.name}.ogg"
        if folder.exists():
            continue
        partial = folder.with_name(f".{voice.name}.part")
        partial.mkdir(parents=True, exist_ok=True)
        for path in debian_package(RECORDINGS, debs).rglob(f"*{ending}"):
            if soundfile.info(path).duration >= SHORTEST_RECORDING:
                shutil.copyfile(path, partial / path.name.replace(ending, ".ogg"))
        partial.rename(folder)


def fetch_banks(repositories: Path, bank: Path) -> None:
    """Real singers: files of their voice banks, as ``bank``/recordings/<singer>/<folder>/, with the oto.ini."""
    table = {row["singer"]: row for row in rows("voices.tsv")}
    for name in dict.fromkeys(singer.voice.name for singer in SINGERS if singer.voice.engine == "bank"):
        target = bank / "recordings" / name
        if target.exists():
            continue
        singer, _, folder = name.partition("/")
        repository = Repository(table[singer]["source"], table[singer]["commit"], repositories)
        objects = {Path(path).name: blob for path, blob in repository.files(f"{folder}/*".lstrip("/")).items()}
        oto = repository.read(objects["oto.ini"])
        if oto is None:
            raise SystemExit(f"{repository.path}: lacks {folder}/oto.ini; remove it, to clone it whole")
        sung = sorted(vowel_onsets(oto).keys() & objects.keys())
        partial = target.with_name(f".{target.name}.part")
        partial.mkdir(parents=True, exist_ok=True)
        for file in np.random.default_rng(seed_of(name)).permutation(sung)[:BANK_FILES]:
            if (content := repository.read(objects[file])) is not None:
                (partial / file).write_bytes(content)
        (partial / "oto.ini").write_bytes(oto)
        partial.rename(target)


def fill(folder: Path, singers: list[Singer], enough: float, seconds: float, bank: Path) -> None:
    """Makes takes, one singer after the other, until the folder holds enough minutes."""
    for number, singer in ((number, singer) for number in count() for singer in singers):
        if minutes(folder) >= enough:
            break
        path = folder / singer.name / f"{number:03d}.flac"
        if path.exists():
            continue
        take = Take(singer, number, seconds, bank)
        audio = take.render()
        write(path, audio)
        print(f"{singer.name}/{path.name}: {take.manner}, {audio.shape[1] / SAMPLE_RATE:.0f} s", flush=True)
    print(f"{folder}: {len(list(audio_files(folder)))} takes, {minutes(folder):.1f} min", flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=260, help="minutes of training takes (default: 260)")
    arguments.add_argument("--seconds", type=float, default=60, help="length of a take (default: 60)")
    repositories_option(arguments)
    options = arguments.parse_args()
    if options.seconds < SHORTEST_SECONDS:
        arguments.error(f"--seconds {options.seconds:g} is too short for a line; at least {SHORTEST_SECONDS:g}")
    singers, validation = SINGERS, VALIDATION_SINGERS
    if options.quick:  # flite alone: no network to load
        options.minutes, options.seconds = 0.1, SHORTEST_SECONDS
        singers, validation = ([one for one in some if one.voice.engine == "flite"] for some in (singers, validation))
    missing = [tool for tool in ("espeak-ng", "flite") if not shutil.which(tool)]
    if missing:
        arguments.error(f"{' and '.join(missing)} missing: apt-get install espeak-ng flite")
    bank = options.output / "voice_bank"
    if not options.quick:
        fetch_recordings(options.output / "debs", bank)
        fetch_banks(options.repositories or options.output / "repositories", bank)
    enough = min(options.minutes / 10, VALIDATION_MINUTES)
    fill(options.output / "validation" / "singing", validation, enough, options.seconds, bank)
    fill(options.output / "singing", singers, options.minutes, options.seconds, bank)


if __name__ == "__main__":
    main()
