"""Whole songs: the stages one by one, the command's path from file to files, and how both grow with the length."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from frame_transformer.audio import AudioReader, AudioWriter, StreamingISTFT, StreamingSTFT
from frame_transformer.models import SignalConfig, V1Config, WindowConfig, create_model
from frame_transformer.separation import OutputOptions, Separator
from frame_transformer.separation.batch import separate_file

from .measuring import ChildFailedError, Result, in_child

SAMPLE_RATE = 44_100
TINY = V1Config(
    SignalConfig(n_fft=512, hop_length=256), WindowConfig(256, 64), widths=(1, 2, 4, 6, 8, 10), heads=2, expansion=1
)


def make_song(path: Path, seconds: float) -> Path:
    """Quiet noise: the cost of separating does not depend on what sounds."""
    random = np.random.default_rng(0)
    with AudioWriter(path, SAMPLE_RATE, 2) as writer:
        for start in range(0, round(seconds), 10):
            samples = round(min(10, seconds - start) * SAMPLE_RATE)
            writer.write((random.standard_normal((2, samples)) * 0.05).astype(np.float32))
    return path


def _separator(model: str, device: str = "cpu") -> Separator:
    if model != "tiny":
        return Separator(model, device=device)
    torch.manual_seed(0)
    return Separator(create_model(TINY).eval(), device=device)


def stages(model: str, song: str, threads: int) -> Result:
    """Seconds of each stage alone, one after the other, in this process."""
    torch.set_num_threads(threads)
    (part,) = _separator(model).parts
    seconds: Result = {}

    def lap(stage: str, started: float) -> None:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started

    started = time.perf_counter()
    blocks = list(AudioReader(song))
    lap("decode", started)
    stft, istft = (kind(part.signal.n_fft, part.signal.hop_length) for kind in (StreamingSTFT, StreamingISTFT))
    started = time.perf_counter()
    spectrum = torch.cat([*(stft.push(torch.from_numpy(block)) for block in blocks), stft.finish()], dim=2)
    lap("stft", started)
    width = part.window + 2 * part.context
    started = time.perf_counter()
    for start in range(0, spectrum.shape[2], part.window - part.overlap):
        magnitudes = spectrum[None, :, :-1, start : start + width].abs()
        part.mask(torch.nn.functional.pad(magnitudes, (0, width - magnitudes.shape[3])))
    lap("network", started)
    started = time.perf_counter()
    stem = np.concatenate([istft.push(piece).numpy() for piece in spectrum.split(512, dim=2)], axis=1)
    lap("inverse", started)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            with AudioWriter(Path(folder) / f"{number}.wav", SAMPLE_RATE, 2) as writer:
                writer.write(stem)
    lap("encode", started)
    return seconds


def end_to_end(model: str, song: str, threads: int) -> Result:
    """Seconds from the file to both stems on disk, loading of the model apart."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    separator = _separator(model)
    loaded = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = separate_file(separator, Path(song), OutputOptions(Path(folder)))
    return {"load": loaded - started, "seconds": time.perf_counter() - loaded, "rtf": result.elapsed / result.seconds}


def first_samples(model: str, song: str) -> Result:
    """Seconds until the first separated samples, the model's loading included and the imports not."""
    started = time.perf_counter()
    block = next(iter(_separator(model).stream(song)))
    return {"seconds": time.perf_counter() - started, "samples": block.vocals.shape[1]}


def run_songs(quick: bool, threads: int) -> list[Result]:
    """Stages and real-time factor of the default model on a three-minute song."""
    model, length = ("tiny", 3.0) if quick else ("default", 180.0)
    with tempfile.TemporaryDirectory() as folder:
        song = str(make_song(Path(folder) / "song.flac", length))
        row: Result = {"model": model, "seconds": length, "threads": threads}
        try:
            alone = in_child("benchmarks.songs:stages", model=model, song=song, threads=threads)
            whole = in_child("benchmarks.songs:end_to_end", model=model, song=song, threads=threads)
            row |= {f"{stage}_s": alone[stage] for stage in ("decode", "stft", "network", "inverse", "encode")}
            row |= {"load_s": whole["load"], "rtf": whole["rtf"], "peak_mb": whole["peak_mb"]}
        except ChildFailedError as error:
            row["failed"] = str(error)
    return [row]


def run_growth(quick: bool, threads: int) -> list[Result]:
    """A tiny network, so that what grows with the song is not hidden behind it."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (0.05,) if quick else (1, 10, 120):
            song = make_song(Path(folder) / "song.flac", 60 * minutes)
            row: Result = {"minutes": minutes, "threads": threads}
            try:
                whole = in_child("benchmarks.songs:end_to_end", model="tiny", song=str(song), threads=threads)
                row |= {key: whole[key] for key in ("seconds", "rtf", "peak_mb")}
            except ChildFailedError as error:
                row["failed"] = str(error)
            rows.append(row)
    return rows


def run_startup(quick: bool, threads: int) -> list[Result]:
    """The help page and the first separated samples, each from the start of a fresh process."""
    rows = []
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "from frame_transformer.cli import main; main()", "--help"],
        capture_output=True,
        check=True,
    )
    rows.append({"what": "--help", "seconds": time.perf_counter() - started})
    with tempfile.TemporaryDirectory() as folder:
        song = str(make_song(Path(folder) / "song.flac", 5 if quick else 180))
        started = time.perf_counter()
        in_child("benchmarks.songs:first_samples", model="tiny" if quick else "default", song=song)
        rows.append({"what": "first separated samples", "seconds": time.perf_counter() - started})
    return rows
