"""Trains a first default model in minutes on two cores, from the folders that steps 1 and 2 made.

    python recipes/default/03_train.py --data DATA --output DATA/model.safetensors --minutes 20

A mix is any instrumental plus any vocal at random gains (VoxAug in its plainest form). The run resumes from
``OUTPUT.checkpoint`` and keeps an exponential moving average of the weights, which is what it writes.
"""

import argparse
import json
import time
from pathlib import Path

import av
import numpy as np
import torch

from frame_transformer.models import AsymUNetMCTConfig, create_model, save_model

RATE, N_FFT, HOP, FRAMES = 44_100, 2048, 1024, 128
CONFIG = AsymUNetMCTConfig(
    widths=(8, 16, 24, 32, 48, 64, 96, 96, 96),
    attention_maps=(0, 0, 1, 1, 1, 1, 1, 1),
    heads=4,
    expansion=2.0,
    latent_layers=2,
    latent_expansion=2,
    positional_embedding=False,
    restart_latent_residual=False,
    dropout=0.0,
    window=128,
    context=64,
)


def decoded(path: Path, cache: Path) -> np.ndarray:
    """The track as memory-mapped int16 (samples, 2) at 44.1 kHz, decoded once."""
    target = cache / f"{path.parent.name}-{path.stem}.npy"
    if not target.exists():
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("s16", "stereo", RATE)
            blocks = [out.to_ndarray() for f in container.decode(audio=0) for out in resampler.resample(f)]
            blocks += [out.to_ndarray() for out in resampler.resample(None)]
        np.save(target, np.concatenate(blocks, axis=1).reshape(-1, 2))
    return np.load(target, mmap_mode="r")


def crop(tracks: list[np.ndarray], weights: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """(2, samples) float32 scaled to a random loudness; draws again where the track is silent."""
    samples = (FRAMES - 1) * HOP
    for _ in range(8):
        track = tracks[rng.choice(len(tracks), p=weights)]
        start = rng.integers(0, len(track) - samples)
        x = np.asarray(track[start : start + samples], np.float32).T / 32768
        rms = np.sqrt(np.mean(x**2))
        if rms > 0.01:
            break
    x = x * 10 ** (rng.uniform(-9, 3) / 20) * 0.1 / max(rms, 0.01)
    if rng.random() < 0.5:
        x = x[::-1]
    width = rng.uniform(0, 1.3)
    mid, side = (x[0] + x[1]) / 2, (x[0] - x[1]) / 2 * width
    return torch.from_numpy(np.stack((mid + side, mid - side)).astype(np.float32))


def equalise(x: torch.Tensor) -> torch.Tensor:
    """A random smooth gain curve of up to ±9 dB over frequency for each example."""
    spectrum = torch.fft.rfft(x)
    points = torch.empty(len(x), 1, 6).uniform_(-1, 1) * 9 * torch.rand(len(x), 1, 1)
    bins = torch.nn.functional.interpolate(points, 512, mode="linear", align_corners=True)
    position = torch.linspace(0, 1, spectrum.shape[-1]).pow(0.4).mul(511).long()
    return torch.fft.irfft(spectrum * 10 ** (bins[..., position] / 20), x.shape[-1])


def magnitude(x: torch.Tensor) -> torch.Tensor:
    window = torch.hann_window(N_FFT)
    return torch.stft(x.flatten(0, 1), N_FFT, HOP, window=window, return_complex=True).unflatten(0, x.shape[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=600, help="length of the learning-rate schedule")
    parser.add_argument("--bf16", action="store_true", help="mixed precision: faster, less stable on a young model")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    cache = args.data / "decoded"
    cache.mkdir(exist_ok=True)
    songs = sorted((args.data / "stems").iterdir())
    vocals = [decoded(song / "vocals.flac", cache) for song in songs]
    paths = [song / "instrumental.flac" for song in songs] + sorted((args.data / "instrumentals").rglob("*.flac"))
    instrumentals = [t for t in (decoded(p, cache) for p in paths) if len(t) > FRAMES * HOP]
    real = len(songs)
    voice_p = np.ones(len(vocals)) / len(vocals)
    music_p = np.where(np.arange(len(instrumentals)) < real, 0.4 / real, 0.6 / (len(instrumentals) - real))

    model = create_model(CONFIG)
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(instrumentals), "instrumentals", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-2)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98))
    checkpoint, step = args.output.with_suffix(".checkpoint"), 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        step = saved["step"]
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
    rng = np.random.default_rng(step)
    started, losses, skipped = time.monotonic(), [], 0
    while step < args.steps and time.monotonic() - started < args.minutes * 60:
        scale = min(1, (step + 1) / 40) * max(0.02, (1 - step / args.steps))
        optimizer.param_groups[0]["lr"] = args.lr * scale
        music = equalise(torch.stack([crop(instrumentals, music_p, rng) for _ in range(args.batch)]))
        voice = equalise(torch.stack([crop(vocals, voice_p, rng) for _ in range(args.batch)]))
        voice = voice * torch.from_numpy((rng.random((args.batch, 1, 1)) > 0.1).astype(np.float32))
        mixture, music, voice = magnitude(music + voice), magnitude(music), magnitude(voice)
        x = mixture.abs()[:, :, :-1]
        x = x / x.amax((1, 2, 3), keepdim=True).clamp_min(1e-4) * torch.empty(args.batch, 1, 1, 1).uniform_(0.4, 1)
        ratio = mixture.abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-2)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            mask = model(x).float().sigmoid()
        mixed = mixture[:, :, :-1]
        loss = ((mask * mixed - music[:, :, :-1]).abs() / ratio).mean()
        loss = loss + (((mask * mixed).abs() - music[:, :, :-1].abs()).abs() / ratio).mean()
        loss = loss + ((((1 - mask) * mixed).abs() - voice[:, :, :-1].abs()).abs() / ratio).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(norm):
            # bfloat16 overflows now and then on a young model: such a batch is left out, too many end the run.
            skipped += 1
            if skipped > 20:
                raise SystemExit(f"step {step}: the gradients are not finite")
            continue
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
        step += 1
        if step % 25 == 0:
            entry = {
                "step": step,
                "loss": round(float(np.mean(losses)), 4),
                "seconds": round(time.monotonic() - started),
            }
            print(json.dumps(entry), flush=True)
            losses = []
            torch.save(
                {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                 "average": average.state_dict()},
                checkpoint,
            )  # fmt: skip
            save_model(average.module, args.output, torch.float16)


if __name__ == "__main__":
    main()
