"""Step 1: real songs whose stems are known, for training and for validation.

Takes the album "Everything is Free" by Software-Entwicklungskit (CC0, public repository
github ichbinsoftware/everythingisremixed): one folder a song, files named ``<song>_Stem_<name>.m4a``. The stems whose
name holds VOX are voice. Writes for every song

    stems/<song>/{mixture,vocals,instrumental}.flac
    stems_parts/<song>/{lead,backing,drums,bass,other}.flac     finer groups, at the same level

except for the song kept for validation, which goes to validation/<song>/. The real excerpt inside PyPI's stempeg goes
to validation/stempeg/ (24 bit); it is never trained on.
"""

import importlib.util
from pathlib import Path

import numpy as np
from common import SAMPLE_RATE, decode, headroom, parser, write

VALIDATION_SONG = "3.Sodium"
DRUM_WORDS = ["HH", "HAT", "HATS", "DRUM", "DRUMS", "KICK", "K", "SN", "SNARE", "CLAP", "BEAT", "BREAKBEAT",
"BREAK", "TOM", "TOMS", "CRASH", "TOPS", "PRC", "TRAP", "HOUSE", "GARAGE", "SCRATCH"]  # fmt: skip


def part_of(name: str) -> str:
    """The group that a stem belongs to, by its file name."""
    words = name.replace("_", " ").upper().split()
    if "BGVOX" in words:
        return "backing"
    if "VOX" in words:
        return "lead"
    if "BASS" in words:
        return "bass"
    if "MELODY" not in words and any(word in DRUM_WORDS for word in words):
        return "drums"
    return "other"


def song_parts(folder: Path) -> dict[str, np.ndarray]:
    """Sums a song's stems into its groups; every group is padded to the length of the longest stem."""
    parts: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*_Stem_*")):
        # The album has every stem twice; the smaller one, for telephones, stands in where the other is missing.
        if path.stem.endswith("_mobile") and path.with_stem(path.stem.removesuffix("_mobile")).exists():
            continue
        stem = decode(path)
        name = part_of(path.stem.split("_Stem_")[1])
        if name not in parts:
            parts[name] = np.zeros_like(stem)
        missing = stem.shape[1] - parts[name].shape[1]
        if missing > 0:
            parts[name] = np.pad(parts[name], ((0, 0), (0, missing)))
        parts[name][:, : stem.shape[1]] += stem
    length = max(part.shape[1] for part in parts.values())
    return {name: np.pad(part, ((0, 0), (0, length - part.shape[1]))) for name, part in parts.items()}


def write_song(folder: Path, output: Path) -> None:
    target = output / ("validation" if folder.name == VALIDATION_SONG else "stems") / folder.name
    if (target / "mixture.flac").exists():
        return
    parts = song_parts(folder)
    silence = np.zeros_like(next(iter(parts.values())))
    vocals = sum((parts[name] for name in ("lead", "backing") if name in parts), silence)
    instrumental = sum((parts[name] for name in ("drums", "bass", "other") if name in parts), silence)
    mixture = vocals + instrumental
    gain = headroom(mixture, vocals, instrumental, *parts.values())
    if folder.name != VALIDATION_SONG:
        for name, part in parts.items():
            write(output / "stems_parts" / folder.name / f"{name}.flac", gain * part)
    write(target / "vocals.flac", gain * vocals)
    write(target / "instrumental.flac", gain * instrumental)
    write(target / "mixture.flac", gain * mixture)
    print(f"{folder.name}: {mixture.shape[1] / SAMPLE_RATE / 60:.1f} min, gain {gain:.2f}, parts {' '.join(parts)}")


def write_stempeg(output: Path) -> None:
    target = output / "validation" / "stempeg"
    if (target / "mixture.flac").exists():
        return
    # Importing stempeg needs an ffmpeg program; its data file does not.
    package = Path(importlib.util.find_spec("stempeg").origin).parent
    path = next((package / "data").glob("*.stem.mp4"))
    mixture, drums, bass, other, vocals = (decode(path, stream) for stream in range(5))
    instrumental = drums + bass + other
    gain = headroom(mixture, vocals, instrumental)
    write(target / "vocals.flac", gain * vocals, "PCM_24")
    write(target / "instrumental.flac", gain * instrumental, "PCM_24")
    write(target / "mixture.flac", gain * mixture, "PCM_24")
    print(f"stempeg excerpt: {mixture.shape[1] / SAMPLE_RATE:.1f} s, gain {gain:.2f}")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--stems", type=Path, metavar="DIR", help="the album's folder, with one folder a song")
    options = arguments.parse_args()
    write_stempeg(options.output)
    if options.stems:
        for folder in sorted(path for path in options.stems.iterdir() if path.is_dir()):
            write_song(folder, options.output)
    elif not options.quick:
        arguments.error("--stems DIR is missing: the folder of the album 'Everything is Free', one folder a song")


if __name__ == "__main__":
    main()
