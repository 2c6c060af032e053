"""One system of `benchmarks.peers`, run by the Python that has it; only `ours` needs our package.

Separates a WAV file (16 bits, stereo, 44.1 kHz) into two WAV files and says on standard output, one JSON object a line,
what has happened, and when by `time.time()` and `time.process_time()`: ``ready`` (imports and model loaded), ``first``
(separated samples are there), ``progress`` (``seconds`` of music done), ``finished`` (both stems on disk).
"""

from __future__ import annotations

import json
import sys
import time
import wave
from pathlib import Path

import numpy as np

SAMPLE_RATE = 44_100
# Of the README of the package BS-RoFormer 1.2.4: its example, with stereo, and the 8 s of sound that the example takes.
BS_ROFORMER = {"dim": 512, "depth": 12, "time_transformer_depth": 1, "freq_transformer_depth": 1, "stereo": True}
BS_ROFORMER_SAMPLES = 352_800


def tell(event: str, **values: float) -> None:
    print(json.dumps({"event": event, "at": time.time(), "processor": time.process_time(), **values}), flush=True)


def read(path: str) -> np.ndarray:
    """Float32 (channels, samples)."""
    with wave.open(path) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.reshape(-1, 2).T.astype(np.float32) / 32768


def write(path: Path, *parts: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, SAMPLE_RATE, 0, "NONE", ""))
        for part in parts:
            file.writeframes((np.clip(part, -1, 1).T * 32767).astype("<i2").tobytes())


def ours(song: str, output: Path, model: str, threads: int) -> None:
    """A model of this package, as the command runs it: read, separated and written block by block."""
    import contextlib

    import torch

    from frame_transformer import Separator
    from frame_transformer.audio import AudioWriter

    torch.set_num_threads(threads)
    separator = Separator(model, device="cpu")
    tell("ready", parameters=sum(parameter.numel() for parameter in separator.model.parameters()))
    done = 0
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(AudioWriter(output / f"{stem}.wav", SAMPLE_RATE, 2))
            for stem in ("vocals", "instrumental")
        ]
        for block in separator.stream(song):
            done += block.vocals.shape[1]
            tell("progress" if done > block.vocals.shape[1] else "first", seconds=done / SAMPLE_RATE)
            for writer, stem in zip(writers, (block.vocals, block.instrumental), strict=True):
                writer.write(stem)


onnx = ours  # an ONNX file runs in ONNX Runtime


def spleeter(song: str, output: Path, model: str, threads: int) -> None:
    """Spleeter, 2 stems, pretrained: Hennequin et al., JOSS 5(50), 2020. Answers with the whole song at once."""
    import tensorflow
    from spleeter.separator import Separator

    tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
    tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    separator = Separator(multiprocess=False)
    tell("ready")
    mixture = read(song)
    stems = separator.separate(mixture.T)
    tell("first", seconds=mixture.shape[1] / SAMPLE_RATE)
    for name, stem in stems.items():
        write(output / f"{name}.wav", stem.T)


def demucs(song: str, output: Path, model: str, threads: int) -> None:
    """HT-Demucs with random weights: Rouard et al., ICASSP 2023. Four stems, the package's defaults."""
    import torch
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    torch.set_num_threads(threads)
    network = HTDemucs(["drums", "bass", "other", "vocals"]).eval()
    tell("ready", parameters=sum(parameter.numel() for parameter in network.parameters()))

    def follow(state: dict) -> None:
        if state["state"] == "end":
            tell("progress", seconds=state["segment_offset"] / SAMPLE_RATE + network.segment * 0.75)

    mixture = read(song)
    with torch.inference_mode():
        stems = apply_model(network, torch.from_numpy(mixture)[None], callback=follow)[0].numpy()
    tell("first", seconds=mixture.shape[1] / SAMPLE_RATE)
    write(output / "vocals.wav", stems[3])
    write(output / "instrumental.wav", stems[:3].sum(axis=0))


def bs_roformer(song: str, output: Path, model: str, threads: int) -> None:
    """BS-RoFormer with random weights: Lu et al., ICASSP 2024. Chunks of 8 s, one after the other without overlap."""
    import torch
    from bs_roformer import BSRoformer

    torch.set_num_threads(threads)
    network = BSRoformer(**BS_ROFORMER).eval()
    tell("ready", parameters=sum(parameter.numel() for parameter in network.parameters()))
    mixture = read(song)
    samples = mixture.shape[1]
    vocals = np.zeros_like(mixture)
    with torch.inference_mode():
        for start in range(0, samples, BS_ROFORMER_SAMPLES):
            chunk = mixture[:, start : start + BS_ROFORMER_SAMPLES]
            separated = network(torch.from_numpy(chunk)[None])[0].numpy()
            length = min(chunk.shape[1], separated.shape[-1])  # it returns whole hops
            vocals[:, start : start + length] = separated[..., :length]
            tell("progress" if start else "first", seconds=(start + chunk.shape[1]) / SAMPLE_RATE)
    write(output / "vocals.wav", vocals)
    write(output / "instrumental.wav", mixture - vocals)


if __name__ == "__main__":
    name, song, output, model, threads = sys.argv[1:]
    globals()[name](song, Path(output), model, int(threads))
    tell("finished")
