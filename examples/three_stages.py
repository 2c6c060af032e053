"""The three stages of training with a tiny network on generated songs: a minute on a CPU.

python -m examples.three_stages FOLDER
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from frame_transformer.audio import AudioWriter
from frame_transformer.training.run import train

RATE, SECONDS = 44_100, 4
NETWORK = ("widths=[4, 6, 8, 8]", "attention_maps=[0, 0, 1]", "heads=2",
           "expansion=1.0", "bands=[]", "latent_layers=1", "latent_expansion=1", "dropout=0")  # fmt: skip
RATES = ("--model.optimizer.lr=0.02", "--model.optimizer.adamw_lr=0.002")
OF_SEPARATOR = (
    "signal.n_fft=512",
    "signal.hop_length=256",
    "positional_embedding=false",
    "restart_latent_residual=false",
    "window.frames=64",
    "window.context=32",
)


def voice(number: int) -> np.ndarray:
    """Half-second notes of twelve harmonics with vibrato, a quarter of them rests: (2, samples)."""
    random = np.random.default_rng([number, 1])
    pitch = np.repeat(random.uniform(180, 500, 2 * SECONDS), RATE // 2)
    vibrato = 1 + 0.03 * np.sin(2 * np.pi * random.uniform(5, 6.5) * np.arange(SECONDS * RATE) / RATE)
    phase = 2 * np.pi * np.cumsum(pitch * vibrato) / RATE
    fade = np.hanning(RATE // 20)
    sung = np.convolve(np.repeat(random.random(2 * SECONDS) < 0.75, RATE // 2), fade / fade.sum(), "same")
    wave = 0.12 * sung * sum(np.sin(partial * phase) / partial for partial in range(1, 13))
    return np.stack([wave, wave]).astype(np.float32)


def music(number: int) -> np.ndarray:
    """A bass of sines below 110 Hz and four bursts of noise a second: (2, samples)."""
    random = np.random.default_rng([number, 2])
    bass = np.repeat(random.uniform(45, 110, 2 * SECONDS), RATE // 2)
    wave = 0.25 * np.sin(2 * np.pi * np.cumsum(bass) / RATE) * np.ones((2, 1))
    beat = RATE // 4
    for begin in range(0, SECONDS * RATE, beat):
        decay = np.exp(-np.arange(beat) / (RATE * random.uniform(0.01, 0.04)))
        wave[:, begin : begin + beat] += 0.3 * decay * random.standard_normal((2, beat))
    return wave.astype(np.float32)


def write_songs(folder: Path) -> None:
    for number in range(4):
        for role, sound in (("vocals", voice(number)), ("instrumentals", music(number))):
            path = folder / role / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with AudioWriter(path, RATE, 2) as writer:
                writer.write(sound)


def arguments(folder: Path, config: str, output: str, steps: int, *more: str) -> list[str]:
    """Of a small run on the songs in ``folder``."""
    return [
        "--config", config, *[f"--model.network.{field}" for field in (*NETWORK, *OF_SEPARATOR)],
        *[f"--data.{role}={folder / role}" for role in ("instrumentals", "vocals")],
        f"--data.prepared={folder / 'prepared'}", f"--output={folder / output}", f"--trainer.max_steps={steps}",
        "--data.workers=0", "--data.validation_share=0", "--schedule.warmup_steps=5", "--model.ema_decay=0.9",
        '--data.phases=[{"until": null, "frames": 32, "batch_size": 4}]', "--trainer.log_every_n_steps=1",
        "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false", *more,
    ]  # fmt: skip


def adversarial(folder: Path, output: str, steps: int, pretrained: Path, supervised: Path, *more: str) -> Path:
    """The third stage from the first two."""
    start = (f"--model.initial_weights={supervised}", f"--model.discriminator_weights={pretrained}")
    fields = [f"--model.discriminator.{field}" for field in NETWORK]
    rate = ("--model.optimizer.lr=0.005", "--model.discriminator_steps_ahead=0")
    return train(arguments(folder, "adversarial", output, steps, *fields, *start, *rate, *more))


def curve(output: Path, name: str) -> np.ndarray:
    with open(output / "logs/csv/metrics.csv") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file) if row.get(name)])


def first_two_stages(folder: Path) -> tuple[Path, Path]:
    """The weights of pretraining and of the supervised stage that starts from them."""
    write_songs(folder)
    pretrained = train(arguments(folder, "pretrain", "pretrained", 6, *RATES))
    start = f"--model.initial_weights={pretrained}"
    return pretrained, train(arguments(folder, "default", "supervised", 25, *RATES, start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(adversarial(folder, "adversarial", 8, *first_two_stages(folder)))


if __name__ == "__main__":
    main()
