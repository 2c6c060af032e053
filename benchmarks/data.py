"""Training data against training: ``python -m benchmarks.data``.

How many crops per second the loader reads from prepared songs, how many VoxAug augments and mixes, and how many one
training step of a model consumes, all on this machine with the same number of threads.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from frame_transformer.audio import AudioWriter
from frame_transformer.checkpoints import load_model
from frame_transformer.data import CropDataset, VoxAug, discover, prepare, read_prepared
from frame_transformer.models import create_model

SAMPLE_RATE = 44_100


def make_songs(folder: Path, songs: int, seconds: float) -> Path:
    """Noise as prepared songs, half instrumentals, half vocals: what sounds in a crop does not change its cost."""
    random = np.random.default_rng(0)
    for role in ("instrumentals", "vocals"):
        (folder / role).mkdir()
        for number in range(songs):
            with AudioWriter(folder / role / f"{number}.wav", SAMPLE_RATE, 2) as writer:
                writer.write((random.standard_normal((2, round(seconds * SAMPLE_RATE))) * 0.1).astype(np.float32))
    output = folder / "prepared"
    prepare(discover({"instrumentals": [folder / "instrumentals"], "vocals": [folder / "vocals"]}), output)
    return output


def rate(work: Callable[[], object], crops: int, least_seconds: float) -> float:
    """Crops per second of calls that make ``crops`` each, after one call that is not counted."""
    work()
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < least_seconds or not calls:
        work()
        calls += 1
    return calls * crops / elapsed


def batches(dataset: CropDataset, batch_size: int, workers: int) -> Iterator[dict]:
    loader = DataLoader(dataset, batch_size, sampler=range(10**9), num_workers=workers, drop_last=True)
    return iter(loader)


def rate_together(dataset: CropDataset, voxaug: VoxAug, batch_size: int, workers: int, least_seconds: float) -> float:
    loader = batches(dataset, batch_size, workers)  # its processes end with this function
    return rate(lambda: voxaug(next(loader)), batch_size, least_seconds)


def training_step(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> Callable[[], object]:
    """One step of the supervised stage's kind: L1 between masked and instrumental magnitudes, backward, AdamW."""
    n_fft, hop_length = model.config.signal.n_fft, model.config.signal.hop_length
    window = torch.hann_window(n_fft)

    def magnitudes(sound: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(sound.flatten(0, 1), n_fft, hop_length, window=window, return_complex=True)
        return spectrum.abs()[:, :-1].unflatten(0, (-1, 2))

    mixture, instrumental = magnitudes(batch["mixture"]), magnitudes(batch["instrumental"])
    scale = mixture.amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
    mixture, instrumental = mixture / scale, instrumental / scale
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss = (model(mixture).sigmoid() * mixture - instrumental).abs().mean()
        loss.backward()
        optimizer.step()

    return step


def measure(
    model_name: str, frames: int, batch_size: int, workers: int, least_seconds: float
) -> dict[str, float | int | str]:
    """Crops per second of each part, and how many times what a step consumes loader and augmentation together make."""
    known = load_model(model_name)
    model = create_model(known.config)
    model.load_state_dict(known.state_dict())
    samples = (frames - 1) * model.config.signal.hop_length
    voxaug = VoxAug(samples)
    with tempfile.TemporaryDirectory() as folder:
        songs = read_prepared(make_songs(Path(folder), 4, max(20.0, 2 * samples / SAMPLE_RATE)))
        dataset = CropDataset(songs, voxaug.read_samples)
        loader = batches(dataset, batch_size, 0)
        reading = rate(lambda: next(loader), batch_size, least_seconds)
        crops = [next(loader) for _ in range(8)]
        numbers = iter(range(10**9))
        augmenting = rate(lambda: voxaug(crops[next(numbers) % len(crops)]), batch_size, least_seconds)
        both = rate_together(dataset, voxaug, batch_size, workers, least_seconds)
        step = rate(training_step(model.train(), voxaug(crops[0])), batch_size, least_seconds)
    return {
        "model": model_name,
        "frames": frames,
        "seconds": round(samples / SAMPLE_RATE, 2),
        "batch_size": batch_size,
        "workers": workers,
        "threads": torch.get_num_threads(),
        "loader_crops_per_second": round(reading, 2),
        "augmentation_crops_per_second": round(augmenting, 2),
        "loader_and_augmentation_crops_per_second": round(both, 2),
        "training_crops_per_second": round(step, 3),
        "ratio": round(both / step, 2),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data", description=__doc__)
    parser.add_argument("-n", "--model", default="default", help="name or file of the model that trains")
    parser.add_argument("--frames", type=int, default=256, help="frames of a crop")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="processes of the loader beside the training process")
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of each measurement")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(argv)
    result = measure(options.model, options.frames, options.batch_size, options.workers, options.seconds)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
