"""Helpers shared by the steps of this recipe: decoding, atomic writing, splitting into songs, a command line."""

import argparse
import csv
import fnmatch
import json
import os
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import soundfile

HERE = Path(__file__).parent
SAMPLE_RATE = 44100
AUDIO_SUFFIXES = {".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".wav"}


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with the options every step has: ``--output DIR`` and ``--quick``."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--output", type=Path, required=True, metavar="DIR", help="the data folder (made if missing)")
    result.add_argument("--quick", action="store_true", help="a tiny amount of data, to try the recipe out")
    return result


def repositories_option(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--repositories", type=Path, metavar="DIR", help="git directories (OUTPUT/repositories)")


def debian_package(package: str, folder: Path) -> Path:
    """Downloads a Debian package and unpacks it, without installing it, to a folder below ``folder``, which it returns.

    Needs apt-get and dpkg.
    """
    target = folder / package
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        archives = sorted(folder.glob(f"{package}_*.deb"))
        if not archives:
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=True)
            archives = sorted(folder.glob(f"{package}_*.deb"))
        partial = folder / f".{package}.part"
        subprocess.run(["dpkg", "-x", str(archives[-1]), str(partial)], check=True)
        partial.rename(target)
    return target


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table beside this file."""
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


class Repository:
    """A clone of a public repository at one commit, cloned on first use."""

    def __init__(self, source: str, commit: str, folder: Path):
        self.commit, self.path = commit, folder / source.replace("/", "+")
        if not self.path.exists():
            url = f"https://github.com/{source}"
            subprocess.run(["git", "clone", "--bare", "--quiet", url, str(self.path)], check=True)

    def _git(self, *arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(self.path), *arguments], check=True, capture_output=True).stdout

    def files(self, pattern: str) -> dict[str, str]:
        """Paths that match, with the object that holds each; a * crosses no folder."""
        listing = self._git("ls-tree", "-r", "-z", self.commit).decode().split("\0")
        found = {}
        for line in filter(None, listing):
            entry, path = line.split("\t", 1)
            parts, wanted = path.split("/"), pattern.split("/")
            if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted)):
                found[path] = entry.split()[2]
        return found

    def read(self, blob: str) -> bytes | None:
        """The content of an object; None where a partial copy lacks it."""
        try:
            return self._git("cat-file", "blob", blob)
        except subprocess.CalledProcessError:
            return None


def decode(path: Path, stream: int = 0) -> np.ndarray:
    """Decodes one audio stream of a file. Returns float32 `(2, samples)` at 44.1 kHz; mono is copied to both sides."""
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
    blocks = []
    with av.open(str(path)) as container:
        for packet in container.demux(audio=stream):
            if packet.size == 0 and packet.pts is not None:
                continue  # some Ogg files end with an empty packet, which the decoder refuses
            for frame in packet.decode():
                blocks += [part.to_ndarray() for part in resampler.resample(frame)]
        blocks += [part.to_ndarray() for part in resampler.resample(None)]
    return np.concatenate(blocks, axis=1)


def write(path: Path, audio: np.ndarray, subtype: str = "PCM_16") -> None:
    """Writes `(channels, samples)` to ``path`` as FLAC; the file appears only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    soundfile.write(partial, audio.T, SAMPLE_RATE, format="FLAC", subtype=subtype)
    os.replace(partial, path)


def loudest_part(audio: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
    """A random part of `(2, samples)` or more; the loudest of four, because singers pause and tracks start quietly."""
    starts = random.integers(0, audio.shape[1] - samples + 1, size=4)
    return max((audio[:, start : start + samples] for start in starts), key=lambda x: float(np.square(x).sum()))


def headroom(*stems: np.ndarray, peak: float = 0.99) -> float:
    """The one gain (at most 1) under which none of the stems clips; one for all keeps their sum true."""
    loudest = max(float(np.abs(stem).max(initial=0.0)) for stem in stems)
    return min(1.0, peak / max(loudest, 1e-9))


def seed_of(*names: object) -> int:
    """A seed that depends on the names alone, so that a step run again makes the same data."""
    return zlib.crc32("/".join(map(str, names)).encode())


def audio_files(folder: Path) -> Iterator[Path]:
    """Every finished audio file below ``folder``, sorted."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            yield path


def measured_voice(data: Path) -> dict[str, float]:
    """The 90th percentile (dB) of voice of every track that voice_scan.json knows, beside this file or in ``data``."""
    tracks: dict[str, dict[str, float]] = {}
    for report in (HERE / "voice_scan.json", data / "voice_scan.json"):
        if report.exists():
            tracks |= json.loads(report.read_text())["tracks"]
    return {name: track["p90_db"] for name, track in tracks.items()}


def minutes(folder: Path, name: str = "*.flac") -> float:
    """The summed duration, in minutes, of the finished files called ``name`` below ``folder``."""
    paths = (path for path in folder.rglob(name) if not path.name.startswith("."))
    return sum(soundfile.info(path).duration for path in paths) / 60
