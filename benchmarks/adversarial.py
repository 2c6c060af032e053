"""What the adversarial stage does beyond its supervised loss, on generated songs, against a control without it.

    python -m benchmarks.adversarial FOLDER [--seeds 0 1 2] [--steps 180] [--ahead 80]

Both runs start from the same weights and take the same steps on the same crops; in the control the discriminator learns
as well, but does not teach the network. Prints means over the fifths of the training, and what the finished models do
with songs that were not trained on.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch

from frame_transformer.audio import AudioWriter
from frame_transformer.models import load_model
from frame_transformer.training.run import train
from frame_transformer.training.spectrogram import Spectrogram, apply_mask, crop_scale

RATE, SECONDS = 44_100, 4
# Notes and beats are four times as fast and as high as in music, for a transform a sixteenth as large as usual.
NOTE, BEAT = RATE // 8, RATE // 16
NETWORK = ("n_fft=128", "hop_length=64", "widths=[4, 6, 8, 8]", "attention_maps=[0, 0, 1]", "heads=2",
           "expansion=1.0", "latent_layers=1", "latent_expansion=1", "dropout=0")  # fmt: skip
OF_SEPARATOR = ("positional_embedding=false", "restart_latent_residual=false", "window=64", "context=32")


def voice(number: int) -> np.ndarray:
    """Notes of ten harmonics with vibrato, a quarter of them rests: (2, samples)."""
    random = np.random.default_rng([number, 1])
    notes = SECONDS * RATE // NOTE + 1
    time = np.arange(SECONDS * RATE) / RATE
    pitch = np.repeat(random.uniform(720, 2000, notes), NOTE)[: len(time)]
    vibrato = 1 + 0.03 * np.sin(2 * np.pi * random.uniform(20, 26) * time)
    phase = 2 * np.pi * np.cumsum(pitch * vibrato) / RATE
    fade = np.hanning(RATE // 80)
    sung = np.convolve(np.repeat(random.random(notes) < 0.75, NOTE)[: len(time)], fade / fade.sum(), "same")
    wave = 0.12 * sung * sum(np.sin(partial * phase) / partial for partial in range(1, 11))
    return np.stack([wave, wave]).astype(np.float32)


def music(number: int) -> np.ndarray:
    """A bass of sines below 440 Hz and a burst of noise at every beat: (2, samples)."""
    random = np.random.default_rng([number, 2])
    samples = SECONDS * RATE
    bass = np.repeat(random.uniform(180, 440, samples // NOTE + 1), NOTE)[:samples]
    wave = 0.25 * np.sin(2 * np.pi * np.cumsum(bass) / RATE) * np.ones((2, 1))
    for begin in range(0, samples - BEAT, BEAT):
        decay = np.exp(-np.arange(BEAT) / (RATE * random.uniform(0.0025, 0.01)))
        wave[:, begin : begin + BEAT] += 0.3 * decay * random.standard_normal((2, BEAT))
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
        "--data.workers=0", "--data.validation_share=0", "--model.warmup_steps=5", "--model.average_decay=0.9",
        '--data.phases=[{"until": null, "frames": 32, "batch_size": 8}]', "--trainer.log_every_n_steps=1",
        "--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", *more,
    ]  # fmt: skip


def earlier_stages(folder: Path, *more: str) -> tuple[Path, Path]:
    """The finished models of pretraining and of supervised training."""
    pretrained = train(arguments(folder, "pretrain", "pretrained", 6, "--model.optimizer.lr=0.01", *more))
    start = f"--model.initial_weights={pretrained}"
    return pretrained, train(arguments(folder, "tiny", "supervised", 25, "--model.optimizer.lr=0.02", start, *more))


def adversarial(folder: Path, output: str, steps: int, pretrained: Path, supervised: Path, *more: str) -> Path:
    """The third stage from the first two."""
    start = (f"--model.initial_weights={supervised}", f"--model.discriminator_weights={pretrained}")
    fields = [f"--model.discriminator.{field}" for field in NETWORK]
    rate = (
        "--model.optimizer.lr=0.002",
        "--model.discriminator_learning_rate=2.5",
        "--model.discriminator_steps_ahead=0",
    )
    return train(arguments(folder, "adversarial", output, steps, *fields, *start, *rate, *more))


def curve(output: Path, name: str) -> np.ndarray:
    with open(output / "logs/csv/metrics.csv") as file:
        return np.array([float(row[name]) for row in csv.DictReader(file) if row.get(name)])


@torch.no_grad()
def unseen(path: Path) -> dict[str, float]:
    """What a finished model does with eight songs it was not trained on, in dB.

    The voice it leaves in the instrumental over the voice; the music it takes from the instrumental over the music;
    and the signal-to-distortion ratio of the instrumental. Masking is linear, so that all are known exactly.
    """
    model = load_model(path)
    spectrogram = Spectrogram(model.config)
    energy = dict.fromkeys(("voice", "voice_left", "music", "music_lost", "error"), 0.0)
    for number in range(10, 18):
        stems = [torch.from_numpy(make(number)) for make in (voice, music)]
        vocals, instrumental = (
            spectrogram(stem.unfold(1, 63 * model.config.hop_length, 63 * model.config.hop_length).transpose(0, 1))
            for stem in stems
        )
        mixture = vocals + instrumental
        magnitudes = mixture[:, :, :-1].abs()
        mask = model(magnitudes / crop_scale(magnitudes)).sigmoid()
        left, kept = apply_mask(mask, vocals), apply_mask(mask, instrumental)
        parts = (vocals, left, instrumental, instrumental - kept, left + kept - instrumental)
        for name, part in zip(energy, parts, strict=True):
            energy[name] += float(part.abs().square().sum())

    def ratio(above: str, below: str) -> float:
        return 10 * float(np.log10(energy[above] / energy[below]))

    return {"voice left": ratio("voice_left", "voice"), "music lost": ratio("music_lost", "music"),
            "SDR": ratio("music", "error")}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=180)
    parser.add_argument("--ahead", type=int, default=80, help="steps in which the discriminator only learns")
    parser.add_argument("--accuracy-weight", type=float, default=1000.0)
    options = parser.parse_args()
    weight = f"--model.accuracy_weight={options.accuracy_weight}"
    for seed in options.seeds:
        folder = options.folder / f"seed-{seed}"
        write_songs(folder)
        seeds = (f"--seed_everything={seed}", f"--data.seed={seed}")
        stages = earlier_stages(folder, *seeds)
        for name, ahead in (("adversarial", options.ahead), ("control", options.steps)):
            ahead_of = f"--model.discriminator_steps_ahead={ahead}"
            model = adversarial(folder, name, options.steps, *stages, weight, ahead_of, *seeds)
            for value in (
                "discriminator_accuracy_generated",
                "discriminator_accuracy",
                "residual_vocals_db",
                "accuracy",
            ):
                means = [part.mean() for part in np.array_split(curve(folder / name, f"train/{value}"), 5)]
                print(
                    f"| {seed} | {name} | {value} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |", flush=True
                )
            print(
                f"| {seed} | {name} | unseen | " + " | ".join(f"{k} {v:.2f}" for k, v in unseen(model).items()) + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
