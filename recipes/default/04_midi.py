"""Step 4: pop, rock, funk and electronic instrumentals, composed by chance and played by a free General MIDI soundfont.

    python recipes/default/04_midi.py --output DATA --minutes 60

Needs Debian's ``fluidsynth`` and ``fluid-soundfont-gm`` (MIT) and the packages of requirements.txt. Game music holds
little of these styles. Every player is rendered alone, goes through amplifiers, equalisers and compressors as in a
studio, and is panned and mixed. Writes

    instrumentals/midi/<genre>-<number>.flac              44.1 kHz stereo
    validation/instrumentals/midi/<genre>-<number>.flac   one song in sixteen

Songs are drawn from seeds of their names: a run continues where the last one stopped, and two runs make the same songs.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np
import soundfile
from arrangement import GENRES, Arrangement, Part
from common import SAMPLE_RATE, audio_files, minutes, parser, seed_of, write
from production import finish, loudness, place, set_loudness, space

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
TICKS = 960  # a quarter note, at 60 beats a minute: so many ticks a second
LEVELS = {"drums": -19.0, "bass": -22.0, "pad": -32.0, "lead": -24.0, "arpeggio": -30.0}  # dB; chords: -26
DISTORTED = {29, 30}


def midi_file(part: Part, path: Path) -> None:
    """Writes a player's notes as a MIDI file."""
    channel = 9 if part.name == "drums" else 0
    messages = []
    for event in part.events:
        begin, end = (round(seconds * TICKS) for seconds in (event.start, event.start + event.length))
        messages.append((begin, mido.Message("note_on", channel=channel, note=event.key, velocity=event.velocity)))
        messages.append((end, mido.Message("note_off", channel=channel, note=event.key)))
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=1_000_000)])
    track.append(mido.Message("program_change", channel=channel, program=part.program))
    now = 0
    for tick, message in sorted(messages, key=lambda entry: (entry[0], entry[1].type == "note_on")):
        track.append(message.copy(time=tick - now))
        now = tick
    mido.MidiFile(ticks_per_beat=TICKS, tracks=[track]).save(path)


def render(part: Part, seconds: float, folder: Path) -> np.ndarray:
    """Plays a part with the soundfont, without effects. Returns float32 `(2, samples)`."""
    score, sound = folder / f"{part.name}.mid", folder / f"{part.name}.wav"
    midi_file(part, score)
    command = ["fluidsynth", "-ni", "-q", "-g", "0.6", "-R", "0", "-C", "0", "-r", str(SAMPLE_RATE), "-O", "float"]
    subprocess.run([*command, "-F", str(sound), str(SOUNDFONT), str(score)], check=True, capture_output=True)
    audio = soundfile.read(sound, dtype="float32", always_2d=True)[0].T
    samples = int(seconds * SAMPLE_RATE)
    return np.pad(audio[:, :samples], ((0, 0), (0, max(0, samples - audio.shape[1]))))


def shape(part: Part, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A player's channel strip: amplifier and loudspeaker for guitars, compression, equalisation."""
    from pedalboard import (
        Chorus,
        Compressor,
        Distortion,
        Gain,
        HighpassFilter,
        HighShelfFilter,
        LadderFilter,
        LowpassFilter,
        LowShelfFilter,
        PeakFilter,
        Pedalboard,
        Phaser,
    )

    audio = set_loudness(audio, -20)
    chain: list = []
    if part.program in DISTORTED and part.name != "drums":
        chain += [
            HighpassFilter(90),
            Distortion(float(rng.uniform(8, 22))),
            LowpassFilter(float(rng.uniform(4500, 7500))),
        ]
        chain += [PeakFilter(float(rng.uniform(600, 1000)), float(rng.uniform(-6, 0)), 0.8), Gain(-8)]
    elif part.name == "drums":
        chain += [Compressor(-24, float(rng.uniform(2, 6)), float(rng.uniform(5, 25)), float(rng.uniform(60, 160)))]
        chain += [LowShelfFilter(80, float(rng.uniform(-1, 4))), HighShelfFilter(8000, float(rng.uniform(0, 5)))]
        if rng.random() < 0.4:
            drive = float(rng.uniform(2, 9))
            chain += [Distortion(drive), Gain(-0.5 * drive)]
    elif part.name == "bass":
        chain += [Compressor(-26, 4, 10, 120), LowShelfFilter(90, float(rng.uniform(0, 4)))]
        if rng.random() < 0.4:
            chain += [Distortion(float(rng.uniform(3, 14))), LowpassFilter(float(rng.uniform(2500, 6000))), Gain(-4)]
    else:
        chain += [HighpassFilter(float(rng.uniform(80, 220))), Compressor(-24, 2.5, 10, 150)]
        chain += [PeakFilter(float(np.exp(rng.uniform(np.log(300), np.log(5000)))), float(rng.normal(0, 3)), 1)]
        chain += [HighShelfFilter(7000, float(rng.normal(1.5, 3)))]
        effect = rng.random()
        if effect < 0.25:
            chain += [
                Chorus(float(rng.uniform(0.3, 1.5)), float(rng.uniform(0.1, 0.4)), mix=float(rng.uniform(0.2, 0.5)))
            ]
        elif effect < 0.35:
            chain += [Phaser(float(rng.uniform(0.2, 1)), mix=0.4)]
        elif effect < 0.5:
            chain += [LadderFilter(LadderFilter.LPF24, float(rng.uniform(900, 5000)), 0.3, float(rng.uniform(1, 2.5)))]
    return Pedalboard(chain)(audio.astype(np.float32), SAMPLE_RATE)


def ducking(kicks: list[float], samples: int, depth: float, recovery: float = 0.22) -> np.ndarray:
    """The gain `(samples,)` of a bus that every kick pushes down and that recovers within a beat."""
    gain = np.ones(samples, np.float32)
    length = int(recovery * SAMPLE_RATE)
    dip = (1 - depth * (1 - np.linspace(0, 1, length)) ** 1.5).astype(np.float32)
    for kick in kicks:
        first = int(kick * SAMPLE_RATE)
        span = min(length, samples - first)
        gain[first : first + span] = np.minimum(gain[first : first + span], dip[:span])
    return gain


def produce(song: Arrangement, rng: np.random.Generator) -> np.ndarray:
    """Renders and mixes a song. Returns `(2, samples)`."""
    from pedalboard import Compressor, Pedalboard

    samples = int(song.seconds * SAMPLE_RATE)
    mix, hall = np.zeros((2, samples), np.float32), np.zeros((2, samples), np.float32)
    delay, reverb = space(rng, song.tempo, 0.8)
    duck = ducking(song.kicks, samples, song.genre.pumping) if song.genre.pumping else np.float32(1)
    with tempfile.TemporaryDirectory() as folder:
        for index, part in enumerate(part for part in song.parts if part.events):
            audio = render(part, song.seconds, Path(folder))
            if loudness(audio) < -90:  # the soundfont has no sound for these keys
                continue
            level = LEVELS.get(part.name, -26.0) + float(rng.normal(0, 2))
            audio = set_loudness(shape(part, audio, rng), level)
            pan = 0.0 if part.name in {"drums", "bass", "lead"} else float(rng.uniform(0.1, 0.7)) * (-1) ** index
            pan = {"guitar_left": -0.85, "guitar_right": 0.85}.get(part.name, pan)
            if part.name != "drums":
                audio = audio * duck
            place(mix, audio, 0, pan)
            if part.name != "bass":
                place(hall, audio, 0, pan, float(rng.uniform(0.1, 0.6)))
            if part.name in {"lead", "arpeggio"} and rng.random() < 0.6:
                place(mix, delay(audio, SAMPLE_RATE), 0, -pan, float(rng.uniform(0.1, 0.3)))
    wet = set_loudness(reverb(hall, SAMPLE_RATE), loudness(mix) - float(rng.uniform(14, 26)))
    master = Pedalboard([Compressor(-18, float(rng.uniform(1.5, 3)), 20, 150)])
    return finish(master(mix + wet, SAMPLE_RATE), float(rng.uniform(-19, -13)))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=60, help="minutes of music (default: 60)")
    options = arguments.parse_args()
    if not SOUNDFONT.exists() or not shutil.which("fluidsynth"):
        arguments.error("fluidsynth or its soundfont is missing: apt-get install fluidsynth fluid-soundfont-gm")
    folders = [options.output / "instrumentals" / "midi", options.output / "validation" / "instrumentals" / "midi"]
    genres = list(GENRES)
    number = 0
    while sum(map(minutes, folders)) < (0.1 if options.quick else options.minutes):
        # The styles that most songs are of come twice as often.
        genre = genres[number % len(genres)] if number % 3 else ("pop", "rock", "funk", "house")[number // 3 % 4]
        path = folders[number % 16 == 15] / f"{genre}-{number:03d}.flac"
        number += 1
        if path.exists():
            continue
        rng = np.random.default_rng(seed_of("midi", path.stem))
        audio = produce(Arrangement(genre, rng, bars=4 if options.quick else None), rng)
        write(path, audio)
        print(f"{path.relative_to(options.output)}: {audio.shape[1] / SAMPLE_RATE:.0f} s", flush=True)
    for folder in folders:
        count = len(list(audio_files(folder)))
        print(f"{folder.relative_to(options.output)}: {count} songs, {minutes(folder):.0f} min")


if __name__ == "__main__":
    main()
