"""Separates the song excerpt inside the PyPI package stempeg and prints how close the stems come to the true ones."""

import shutil
from importlib.metadata import files
from pathlib import Path

import numpy as np

from frame_transformer.audio import decode
from frame_transformer.separation import OutputOptions, Separator, separate_file

# dB, its pretrained 2-stem model on this excerpt at its own level: recipes/default/spleeter_reference.py.
SPLEETER = {"vocals": 5.3, "instrumental": 11.3}


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Utterance signal-to-distortion ratio in dB."""
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - estimate) ** 2)))


def main() -> None:
    excerpt = next(Path(f.locate()) for f in files("stempeg") or [] if f.name.endswith(".stem.mp4"))
    folder = Path("separated")
    folder.mkdir(exist_ok=True)
    song = folder / "excerpt.mp4"
    shutil.copy(excerpt, song)
    options = OutputOptions(folder, bit_depth="32f")
    result = separate_file(Separator("default"), song, options)
    mixture, drums, bass, other, vocals = (decode(excerpt, stream=number)[0] for number in range(5))
    truth = {"vocals": vocals, "instrumental": drums + bass + other}
    print(f"{result.seconds:.0f} s of song in {result.elapsed:.1f} s")
    for stem, path in result.outputs.items():
        estimate, reference = decode(path)[0], truth[stem]
        ours, unseparated = sdr(reference, estimate), sdr(reference, mixture)
        print(f"{path}: SDR {ours:.1f} dB (the mixture itself {unseparated:.1f}, Spleeter {SPLEETER[stem]:.1f})")


if __name__ == "__main__":
    main()
