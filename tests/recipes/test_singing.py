import fnmatch
import importlib
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("soundfile")
import voices
from common import decode, rows
from singing import (
    SCALES,
    Composer,
    Note,
    Style,
    envelope_at,
    level,
    pitch_curve,
    sing,
    straight,
    syllables_of,
    time_map,
    transpose,
)
from voices import (
    FRAME_SECONDS,
    Line,
    Phoneme,
    Voice,
    analyse,
    bank_lines,
    kind_of,
    recordings,
    spoken,
    timed,
    vowel_onsets,
)

RATE = 16_000
STEADY = Style(vibrato=0.0, scoop=0.0, drift=0.0)


def spoken_line(pitch: float = 120.0) -> tuple[np.ndarray, int, tuple[Phoneme, ...]]:
    """A made-up utterance "sa-ta": noise, vowel, a stop, vowel; harmonics of ``pitch`` under two formants."""
    rng = np.random.default_rng(0)
    phonemes = (
        Phoneme("unvoiced", 0.1, 0.2),
        Phoneme("vowel", 0.2, 0.45),
        Phoneme("unvoiced", 0.45, 0.52),
        Phoneme("vowel", 0.52, 0.8),
    )
    times = np.arange(int(0.9 * RATE)) / RATE
    vowel = sum(
        np.exp(-0.5 * ((k * pitch - 700) / 250) ** 2) * np.sin(2 * np.pi * k * pitch * times) for k in range(1, 40)
    )
    audio = np.zeros(len(times))
    for phoneme in phonemes:
        inside = (times >= phoneme.start) & (times < phoneme.end)
        audio[inside] = vowel[inside] if phoneme.kind == "vowel" else 0.1 * rng.standard_normal(inside.sum())
    return (0.2 * audio).astype(np.float32), RATE, phonemes


def flat_line(peak_bin: int = 40) -> Line:
    """A line whose spectrum has one peak, all voiced."""
    phonemes = spoken_line()[2]
    envelope = np.full((180, 513), -20.0)
    envelope[:, peak_bin - 3 : peak_bin + 4] = 0.0
    return Line(RATE, np.full(180, 120.0), envelope, np.full((180, 513), 0.1), phonemes)


@pytest.mark.parametrize("seed", range(4))
def test_melodies_stay_in_the_range_and_in_the_scale(seed):
    composer = Composer(np.random.default_rng(seed), tempo=100, low=50, high=66)
    for syllables in (1, 5, 12):
        melody = composer.melody(syllables)
        assert len(melody) == syllables
        notes = [note for group in melody for note in group]
        assert all(50 <= note.pitch <= 66 for note in notes)
        assert all((note.pitch - composer.tonic) % 12 in composer.scale for note in notes)
        assert all(a.end == pytest.approx(b.start) for a, b in pairwise(notes))
        third = [note for group in transpose(melody, composer.pitches(), 2) for note in group]
        assert all(high.pitch >= low.pitch for high, low in zip(third, notes, strict=True))
    assert composer.scale in SCALES.values()


def test_vowels_start_on_their_notes_and_only_their_middles_stretch():
    line = flat_line()
    target, source = time_map(line, [0.0, 1.0], 3.0)
    assert (np.diff(target) > 0).all()
    assert (np.diff(source) >= 0).all()
    for onset, start in ((0.0, 0.2), (1.0, 0.52)):
        assert np.interp(onset, target, source) == pytest.approx(start, abs=1e-6)
    assert target[0] == pytest.approx(-0.1)  # the first consonant keeps its length and comes before the beat
    assert np.interp(0.93, target, source) == pytest.approx(0.45)  # so does the stop before the second note
    spoken = np.diff(np.interp([1.3, 2.7], target, source))
    assert spoken < 0.1  # 1.4 s of singing out of the middle of a vowel of 0.28 s


def test_a_sung_pitch_glides_between_notes_and_wavers_at_the_rate_of_its_vibrato():
    times = np.arange(0, 4, FRAME_SECONDS)
    notes = [Note(0, 1, 60), Note(1, 4, 64)]
    curve = pitch_curve(notes, times, STEADY, np.random.default_rng(1))
    assert abs(curve[times < 0.8].mean() - 60) < 0.1
    assert abs(curve[(times > 1.3) & (times < 3.5)].mean() - 64) < 0.1
    style = Style(vibrato=0.5, vibrato_rate=5.5, vibrato_delay=0.2, scoop=0.0, drift=0.0)
    sung = pitch_curve(notes, times, style, np.random.default_rng(1))[(times > 1.8) & (times < 3.4)]
    spectrum = np.abs(np.fft.rfft(sung - sung.mean(), 4096))
    assert np.fft.rfftfreq(4096, FRAME_SECONDS)[spectrum.argmax()] == pytest.approx(5.5, abs=0.7)
    assert 0.2 < np.percentile(np.abs(sung - 64), 95) < 0.8


def test_a_note_is_scooped_into_without_a_jump():
    times = np.arange(0, 4, FRAME_SECONDS)
    notes = [Note(0, 1, 60), Note(1.2, 4, 61)]
    style = Style(vibrato=0.0, drift=0.0, scoop=2.0)
    curves = [pitch_curve(notes, times, style, np.random.default_rng(seed)) for seed in range(6)]
    assert max(np.abs(np.diff(curve)).max() for curve in curves) < 0.5  # semitones in 5 ms
    assert min(curve[(times > 1.15) & (times < 1.3)].min() for curve in curves) < 60  # some start too low


def test_formants_move_the_envelope_and_the_top_band_is_filled():
    positions = np.linspace(0, 170, 50)
    peaks = []
    for formants in (1.0, 1.2):
        envelope, aperiodicity = envelope_at(flat_line(), positions, formants)
        assert envelope.shape == aperiodicity.shape == (50, 1025)
        peaks.append(np.median(np.flatnonzero(envelope[0] > -1)) * 44100 / 2048)
        assert np.isfinite(envelope).all()
        assert (aperiodicity[:, -200:] >= 0.95).all()
        assert (envelope[:, -1] < envelope[:, 600]).all()
    assert peaks[0] == pytest.approx(40 * 8000 / 512, rel=0.05)
    assert peaks[1] / peaks[0] == pytest.approx(1.2, rel=0.03)


def test_hiss_stays_below_the_vowels():
    envelope = np.zeros((60, 1025))
    envelope[30:] += 3.0  # a consonant louder than the vowel before it
    evened = np.logaddexp.reduce(level(envelope, np.arange(60) < 30), axis=1) * 10 / np.log(10)
    assert evened[40:].max() <= evened[:20].max() - 8.9


def test_phonemes_are_told_apart():
    assert [kind_of(unit) for unit in ("ˈoʊ", "m", "s", "tʃ", "ð", " ", "ɚ")] == [
        "vowel", "voiced", "unvoiced", "unvoiced", "voiced", "pause", "vowel",
    ]  # fmt: skip
    phonemes = timed(["h", "ˈeɪ"], [2, 6], lead=1, step_seconds=0.25)
    assert phonemes == (Phoneme("unvoiced", 0.25, 0.75), Phoneme("vowel", 0.75, 2.25))
    assert syllables_of(flat_line()) == 2
    target, source = straight(flat_line(), 2.0)
    assert target[-1] == pytest.approx(0.35)
    assert list(source) == [0.1, 0.8]


def test_a_line_is_sung_on_its_notes():
    pytest.importorskip("pyworld", reason="a tool of the recipe, recipes/default/requirements.txt")
    line = analyse(*spoken_line())
    melody = [[Note(0, 0.8, 57)], [Note(0.8, 2.4, 61)]]
    audio, begin = sing(line, melody, STEADY, np.random.default_rng(2))
    again, _ = sing(line, melody, STEADY, np.random.default_rng(2))
    assert np.array_equal(audio, again)
    assert -0.2 < begin < 0
    assert np.isfinite(audio).all()
    for (at, pitch), length in zip(((0.25, 57), (1.2, 61)), (0.4, 0.8), strict=True):
        first = int((at - begin) * 44100)
        part = audio[first : first + int(length * 44100)]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 2**17))
        wanted = 440 * 2 ** ((pitch - 69) / 12)
        near = wanted * 2 ** (np.linspace(-5, 5, 201) / 12)
        comb = [spectrum[[round(f * k / 44100 * 2**17) for k in range(1, 8)]].sum() for f in near]
        assert near[int(np.argmax(comb))] == pytest.approx(wanted, rel=0.02)


def test_a_recording_sings_its_syllables(tmp_path):
    """The same utterance as a file: where its vowels are is heard, not known."""
    pytest.importorskip("pyworld")
    soundfile = pytest.importorskip("soundfile")
    audio, rate, phonemes = spoken_line()
    voice, bank = Voice("somebody", "recorded"), tmp_path
    folder = bank / "recordings" / voice.name
    folder.mkdir(parents=True)
    soundfile.write(folder / "line.wav", np.concatenate([np.zeros(rate), audio, np.zeros(rate)]), rate)
    soundfile.write(folder / "silence.wav", np.zeros(rate), rate)

    assert recordings(voice, bank) == ["line.wav", "silence.wav"]
    line = spoken(voice, "line.wav", "", bank)
    vowels = [phoneme for phoneme in line.phonemes if phoneme.kind == "vowel"]
    lead = 0.05 - phonemes[0].start  # what is left of the silence
    assert [vowel.start - lead for vowel in vowels] == pytest.approx([0.2, 0.52], abs=0.04)
    # The pitch is lost before the sound ends.
    assert [vowel.end - lead for vowel in vowels] == pytest.approx([0.45, 0.8], abs=0.1)
    with pytest.raises(ValueError, match=r"silence\.wav is silent"):
        spoken(voice, "silence.wav", "", bank)


OTO = """\
_かさ.wav=- か,100,300,-400,150,50
_かさ.wav=か,110,300,-400,150,50
_かさ.wav=a さC4,500.5,300,900,220.5,80
_かさ.wav=a -C4,900,300,100,150,50
ba.wav=ba,40,182,-900,15,
a_k.wav=a k,40,182,-900,15,5
"""


@pytest.mark.parametrize("encoding", ["cp932", "utf-8"])
def test_the_table_of_a_voice_bank_tells_where_vowels_start(encoding):
    onsets = vowel_onsets(OTO.replace("\n", "\r\n").encode(encoding))
    assert onsets == {"_かさ.wav": pytest.approx([0.25, 0.721]), "ba.wav": pytest.approx([0.055])}


@pytest.fixture
def voice_bank(tmp_path):
    """A folder of two recordings of "sa-ta", after different silences, and their oto.ini."""
    soundfile = pytest.importorskip("soundfile")
    audio, rate, _ = spoken_line()
    folder = tmp_path / "repositories" / "someone+bank" / "C3"
    folder.mkdir(parents=True)
    for name, silence in (("a.wav", 1.0), ("b.wav", 0.5)):
        soundfile.write(folder / name, np.concatenate([np.zeros(int(silence * rate)), audio, np.zeros(rate)]), rate)
    table = [("a.wav", 1.2), ("a.wav", 1.52), ("b.wav", 0.7), ("b.wav", 1.02)]
    entries = [f"{name}=a か,{1000 * onset - 150:.3f},200,-300,150,50" for name, onset in table]
    (folder / "oto.ini").write_text("\n".join(entries), encoding="utf-8")
    return folder


def test_lines_of_a_voice_bank_have_enough_syllables(voice_bank):
    lines = bank_lines(voice_bank)
    assert {name for line in lines for name in line.split("|")} == {"a.wav", "b.wav"}
    assert all(len(line.split("|")) == 3 for line in lines)  # two syllables each, and five are wanted


def test_a_voice_bank_sings_its_syllables(voice_bank, tmp_path, monkeypatch):
    pytest.importorskip("pyworld")
    monkeypatch.setitem(voices.BANKS, "somebody/C3", 47)
    folder = tmp_path / "bank" / "recordings" / "somebody" / "C3"
    folder.parent.mkdir(parents=True)
    voice_bank.rename(folder)
    line = spoken(Voice("somebody/C3", "bank"), "a.wav|b.wav", "", tmp_path / "bank")
    vowels = [phoneme for phoneme in line.phonemes if phoneme.kind == "vowel"]
    length = 0.25 + 0.32 + 0.8  # of a file's part: lead, from vowel to vowel, what follows
    assert [vowel.start for vowel in vowels] == pytest.approx(
        [0.25, 0.57, length + 0.25, length + 0.57], abs=FRAME_SECONDS
    )
    assert [vowel.end - vowel.start for vowel in vowels] == pytest.approx([0.25, 0.28] * 2, abs=0.06)
    assert np.median(line.f0[line.f0 > 0]) == pytest.approx(120, rel=0.01)


def test_voice_banks_come_out_of_their_repositories(voice_bank, tmp_path, monkeypatch, commit):
    step = importlib.import_module("03_singing")
    row = {"singer": "somebody", "source": "someone/bank", "commit": commit(voice_bank.parent)}
    monkeypatch.setattr(step, "rows", lambda name: [row])
    monkeypatch.setattr(step, "SINGERS", [step.Singer("somebody-alto", Voice("somebody/C3", "bank"), 40, 55)])
    step.fetch_banks(tmp_path / "repositories", tmp_path / "bank")
    folder = tmp_path / "bank" / "recordings" / "somebody" / "C3"
    assert {path.name for path in folder.iterdir()} == {"a.wav", "b.wav", "oto.ini"}
    assert np.array_equal(decode(folder / "a.wav"), decode(voice_bank / "a.wav"))


def test_every_voice_bank_is_a_training_singer_of_the_table():
    step = importlib.import_module("03_singing")
    table = {row["singer"]: row for row in rows("voices.tsv")}
    singers = [singer for singer in step.SINGERS if singer.voice.engine == "bank"]
    assert {singer.voice.name for singer in singers} == set(voices.BANKS)
    assert len({singer.name for singer in step.SINGERS}) == len(step.SINGERS)
    for bank in voices.BANKS:
        name, _, folder = bank.partition("/")
        assert table[name]["split"] == "train"
        assert fnmatch.fnmatchcase(f"{folder}/x.wav".lstrip("/"), table[name]["pattern"])
