"""Step 6: songs to measure with: unseen singers over unseen music, next to the real songs that step 1 kept out.

Writes DATA/validation/mixes_real/<number>/{vocals,instrumental}.flac, half a minute each, of the real singers and the
real music that step 5 kept out, and DATA/validation/mixes/ likewise of the synthetic ones of steps 2 and 3. Every
singer is heard equally often. Vocals are 6 dB below to 4 dB above the instrumental where they sing, as on records.
"""

from pathlib import Path

import numpy as np
from common import SAMPLE_RATE, audio_files, decode, headroom, loudest_part, parser, seed_of, write

SECONDS = 30
GROUPS = {  # folders of singers and of music, and how many mixes are made of them
    "mixes_real": ("singing_real", "instrumentals_real", 24),
    "mixes": ("singing", "instrumentals", 12),
}


def excerpt(path: Path, random: np.random.Generator) -> np.ndarray:
    """A random part `(2, samples)` at an RMS of 0.1."""
    audio = decode(path)
    length = min(SECONDS * SAMPLE_RATE, audio.shape[1])
    part = loudest_part(audio, length, random)
    return np.pad(part, ((0, 0), (0, SECONDS * SAMPLE_RATE - length))) * (0.1 / np.sqrt(np.mean(part**2)))


def main() -> None:
    options = parser(__doc__).parse_args()
    folder = options.output / "validation"
    for group, (singing, instrumentals, mixes) in GROUPS.items():
        singers, music = (
            [list(audio_files(path)) for path in sorted(folder.glob(f"{name}/*"))] for name in (singing, instrumentals)
        )
        tracks = [track for source in music for track in source]
        if not singers or not tracks:
            print(f"{group}: no unseen singers or no unseen music in {folder}: left out")
            continue
        for number in range(2 if options.quick else mixes):
            target = folder / group / f"{number:02d}"
            if (target / "instrumental.flac").exists():
                continue
            random = np.random.default_rng(seed_of(group, number))
            takes = singers[number % len(singers)]
            vocals = excerpt(takes[random.integers(len(takes))], random) * 10 ** (random.uniform(-6, 4) / 20)
            instrumental = excerpt(tracks[random.integers(len(tracks))], random)
            gain = headroom(vocals + instrumental, vocals, instrumental)
            write(target / "vocals.flac", gain * vocals)
            write(target / "instrumental.flac", gain * instrumental)
            print(target)


if __name__ == "__main__":
    main()
