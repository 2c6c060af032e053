"""Step 7: music for the teacher to label: mixes of all training data, and excerpts of music in which it heard voice.

Writes DATA/teacher_mixes/mixes-<number>.flac, each 25 mixes of 24 s in a row, drawn and augmented as in training, and
DATA/teacher_mixes/music-<number>.flac, an excerpt of each track in DATA/songs_with_voice. Needs the package itself, and
the data of steps 1 to 6.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from common import audio_files, decode, loudest_part, parser, seed_of, write
from torch.utils.data import default_collate

from frame_transformer.data import CropConfig, CropDataset, Effect, VoxAug, VoxAugConfig
from frame_transformer.training import TrainingData

# Spleeter separates 512 frames of 1024 samples at once. Mixes of twice this length end where its passes end.
SAMPLES = 2 * 512 * 1024
MIXES = 25  # in a file, which is then a little shorter than the ten minutes that the teacher takes at once
LEVEL = 0.16  # RMS: the teacher was trained on records, and hears less in music that is quieter

CROPS = CropConfig(
    no_vocals=0.12,
    only_vocals=0.03,
    same_song=0.15,
    backing=0.15,
    weights={"songs/*": 4.0, "vocals/strudel*": 5.0, "vocals/pjs*": 4.0, "vocals/*": 1.0},
)
VOXAUG = VoxAugConfig(
    vocals_level=(-10.0, 6.0), speed=Effect(0.5, ((0.82, 1.2),)), time_stretch=Effect(0.0), pitch_shift=Effect(0.0)
)


def at_level(audio: np.ndarray) -> np.ndarray:
    return audio * min(LEVEL / max(np.sqrt(np.mean(audio**2)), 1e-4), 0.99 / max(np.abs(audio).max(), 1e-4))


def write_row(path: Path, excerpts: Iterable[np.ndarray]) -> None:
    """Writes excerpts `(2, SAMPLES)` one after the other, at the teacher's level, unless the file exists."""
    if not path.exists():
        write(path, np.concatenate([at_level(audio) for audio in excerpts], axis=1))
        print(path, flush=True)


def excerpt(path: Path) -> np.ndarray:
    """A random part of a track, followed by silence if it is shorter."""
    audio = decode(path)
    audio = np.pad(audio, ((0, 0), (0, max(0, SAMPLES - audio.shape[1]))))
    return loudest_part(audio, SAMPLES, np.random.default_rng(seed_of(path.name)))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--files", type=int, default=18, help="of ten minutes each (18)")
    options = arguments.parse_args()
    data = TrainingData(
        prepared=options.output / "prepared",
        songs=[options.output / "stems", options.output / "separated"],
        vocals=[options.output / "voices", options.output / "singing"],
        instrumentals=options.output / "instrumentals",
        validation_share=0.0,
    )
    data.prepare_data()
    data.setup()
    songs = [song for song in data.training_songs if not song.name.startswith("spleeter/mixes/")]
    mix = VoxAug(SAMPLES, VOXAUG)
    crops = CropDataset(songs, mix.read_samples, CROPS, seed=7)
    folder = options.output / "teacher_mixes"
    files, count = (1, 2) if options.quick else (options.files, MIXES)
    for number in range(files):
        indices = range(number * count, (number + 1) * count)
        mixes = (mix(default_collate([crops[index]]))["mixture"][0].numpy() for index in indices)
        write_row(folder / f"mixes-{number:03d}.flac", mixes)
    tracks = list(audio_files(options.output / "songs_with_voice"))
    for number, begin in enumerate(range(0, len(tracks), count)):
        write_row(folder / f"music-{number:03d}.flac", map(excerpt, tracks[begin : begin + count]))


if __name__ == "__main__":
    main()
