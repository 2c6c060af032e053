"""Step 6: songs to measure with: unseen singers over unseen music, next to the real songs that step 1 kept out.

Writes DATA/validation/mixes/<number>/{vocals,instrumental}.flac, half a minute each, from DATA/validation/singing and
DATA/validation/instrumentals. Vocals are 0 to 8 dB below the instrumental, as on records.
"""

from pathlib import Path

import numpy as np
from common import SAMPLE_RATE, audio_files, decode, headroom, parser, seed_of, write

SECONDS = 30
MIXES = 12


def excerpt(path: Path, random: np.random.Generator) -> np.ndarray:
    """A random part `(2, samples)` at an RMS of 0.1; the loudest of four, because singers pause."""
    audio = decode(path)
    length = min(SECONDS * SAMPLE_RATE, audio.shape[1])
    starts = random.integers(0, audio.shape[1] - length + 1, size=4)
    part = max((audio[:, start : start + length] for start in starts), key=lambda x: float(np.square(x).sum()))
    return np.pad(part, ((0, 0), (0, SECONDS * SAMPLE_RATE - length))) * (0.1 / np.sqrt(np.mean(part**2)))


def main() -> None:
    options = parser(__doc__).parse_args()
    folder = options.output / "validation"
    singers, music = (list(audio_files(folder / name)) for name in ("singing", "instrumentals"))
    if not singers or not music:
        raise SystemExit(f"{folder}: steps 2 and 3 must come first: no unseen singers or no unseen music")
    for number in range(2 if options.quick else MIXES):
        target = folder / "mixes" / f"{number:02d}"
        if (target / "instrumental.flac").exists():
            continue
        random = np.random.default_rng(seed_of("mix", number))
        vocals = excerpt(singers[random.integers(len(singers))], random) * 10 ** (random.uniform(-8, 0) / 20)
        instrumental = excerpt(music[random.integers(len(music))], random)
        gain = headroom(vocals + instrumental, vocals, instrumental)
        write(target / "vocals.flac", gain * vocals)
        write(target / "instrumental.flac", gain * instrumental)
        print(target)


if __name__ == "__main__":
    main()
