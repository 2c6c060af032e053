"""Step 5: trains the default model on the folders that steps 1 to 4 made; resumes where it was ended.

    python recipes/default/05_train.py --output DATA --minutes 90

Songs are decoded once into DATA/prepared. A mix is any instrumental plus any vocal (VoxAug). The learning rate follows
the time spent, so that a run ends well however fast the machine is: ``--minutes`` is the length of the whole training.
Every twenty minutes the average of the weights is measured on the songs of DATA/validation and goes to DATA/training/,
with a line in DATA/training/log.jsonl.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from common import decode, parser
from torch import Tensor, nn
from torch.utils.data import DataLoader

from frame_transformer.checkpoints import load_model, save_model
from frame_transformer.data import (
    CropConfig,
    CropDataset,
    Effect,
    PreparedSong,
    VoxAug,
    VoxAugConfig,
    discover,
    prepare,
    read_prepared,
)
from frame_transformer.models import AsymUNetMCT, AsymUNetMCTConfig, SignalConfig, WindowConfig
from frame_transformer.separation import Separator
from frame_transformer.training.losses import error_ratio, relative_distance
from frame_transformer.training.muon import Muon, split_kernels

MODEL = AsymUNetMCTConfig(
    signal=SignalConfig(n_fft=4096, hop_length=2048),
    bands=((256, 4), (512, 16), (1280, 40)),
    widths=(24, 32, 48, 64, 96, 128, 128),
    attention_maps=(0, 0, 2, 2, 2, 2),
    heads=4,
    expansion=2.0,
    latent_layers=2,
    latent_expansion=2,
    positional_embedding=False,
    restart_latent_residual=False,
    dropout=0.0,
    window=WindowConfig(frames=256, context=32),
)
FRAMES = 64
CROPS = CropConfig(no_vocals=0.06, only_vocals=0.03, same_song=0.15)
VOXAUG = VoxAugConfig(
    speed=Effect(0.5, ((0.84, 1.19),)),
    pitch_shift=Effect(0.0),
    time_stretch=Effect(0.0),
)
REAL_VOICE_SHARE = 0.2  # of the vocals drawn, real singing by one band against everybody else: more is learnt by heart
WARM_UP_STEPS = 40


def spectrogram(x: Tensor, config: AsymUNetMCTConfig) -> Tensor:
    """(batch, 2, samples) → complex (batch, 2, n_fft / 2, frames), without the Nyquist bin."""
    n_fft, hop_length = config.signal.n_fft, config.signal.hop_length
    spectrum = torch.stft(x.flatten(0, 1), n_fft, hop_length, window=torch.hann_window(n_fft), return_complex=True)
    return spectrum[:, :-1].unflatten(0, x.shape[:2])


def random_level(magnitude: Tensor) -> Tensor:
    """What divides each mixture, (batch, 1, 1, 1): in a song it is the song's maximum, rarely that of the crop."""
    share = torch.empty(len(magnitude), 1, 1, 1).uniform_(0.3)
    return magnitude.amax((1, 2, 3), keepdim=True).clamp_min(1e-3) / share


def loss_of(model: AsymUNetMCT, batch: dict[str, Tensor]) -> Tensor:
    """How far the signal-to-distortion ratio is from that of a perfect mask, plus a little distance of magnitudes."""
    stems = (batch[name] for name in ("mixture", "instrumental", "vocals"))
    mixture, instrumental, vocals = (spectrogram(stem, model.config) for stem in stems)
    magnitude = mixture.abs()
    masked = model(magnitude / random_level(magnitude)).sigmoid() * mixture
    ratio = error_ratio(masked, instrumental, mixture)
    return ratio + 0.2 * relative_distance(masked, instrumental, vocals, mixture)


def balanced(songs: list[PreparedSong], share: float = REAL_VOICE_SHARE) -> list[PreparedSong]:
    """Repeats the songs with real singing until they are about ``share`` of all voice that is drawn."""
    real = [song for song in songs if "vocals" in song.stems and song.role == "songs"]
    voices = [song for song in songs if song.role == "vocals"]
    if not real or not voices:
        return songs
    seconds = [sum(song.samples for song in part) for part in (real, voices)]
    repeats = max(1, round(share / (1 - share) * seconds[1] / (0.5 * seconds[0])))
    return songs + real * (repeats - 1)


def show_prepared(done: int, total: int, name: str) -> None:
    print(f"\rprepared {done}/{total}", end="" if done < total else "\n", flush=True)


def training_songs(data: Path) -> list[PreparedSong]:
    folders = {"songs": data / "stems", "vocals": data / "singing", "instrumentals": data / "instrumentals"}
    songs = discover({role: [folder] for role, folder in folders.items() if folder.is_dir()})
    report = prepare(songs, data / "prepared", show_prepared)
    for name, reason in report.skipped:
        print(f"left out: {name}: {reason}")
    return read_prepared(data / "prepared")


def optimizers_of(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the kernels of convolutions, AdamW for everything else."""
    kernels, others = (group["params"] for group in split_kernels(model))
    return [Muon(kernels, lr=0.01), torch.optim.AdamW(others, lr=1e-3, betas=(0.9, 0.98), weight_decay=0)]


def rate_factor(step: int, left: float) -> float:
    """The learning rate over its peak; ``left`` is the share of the training that is still to come.

    With a weight decay of 1 the rate is also how fast weights are forgotten: near 0.01 the loss stayed for a thousand
    steps where the first hundred had brought it, and fell as soon as the rate was 0.003.
    """
    return min((step + 1) / WARM_UP_STEPS, left**2)


def batches(
    songs: list[PreparedSong],
    batch_size: int,
    first: int = 0,
    effects: VoxAugConfig = VOXAUG,
    crops: CropConfig = CROPS,
) -> Iterator[dict[str, Tensor]]:
    """Batches for ever; crop number ``first`` comes first."""
    voxaug = VoxAug((FRAMES - 1) * MODEL.signal.hop_length, effects)
    dataset = CropDataset(songs, voxaug.read_samples, crops)
    endless = DataLoader(dataset, batch_size, sampler=range(first, 1 << 40), num_workers=1, prefetch_factor=4)
    return map(voxaug, endless)


def sdr(reference: Tensor, estimate: Tensor) -> float:
    """Utterance signal-to-distortion ratio in dB."""
    return (10 * torch.log10(reference.square().sum() / (reference - estimate).square().sum())).item()


def measured(model: nn.Module, songs: Path, pattern: str = "*/mixture.flac") -> dict[str, list[float]]:
    """SDR of vocals and instrumental of every song in a folder, the 60 s of it with the most voice."""
    separator = Separator(model, device="cpu")
    result = {}
    for folder in sorted({path.parent for path in songs.glob(pattern)}):
        vocals, instrumental = (
            torch.from_numpy(decode(folder / f"{stem}.flac")) for stem in ("vocals", "instrumental")
        )
        energy = vocals.square().sum(0).unfold(0, min(60 * 44_100, vocals.shape[1]), 44_100).sum(1)
        start = int(energy.argmax()) * 44_100
        vocals, instrumental = (x[:, start : start + 60 * 44_100] for x in (vocals, instrumental))
        separated = separator.separate(vocals + instrumental)
        pairs = ((vocals, separated.vocals), (instrumental, separated.instrumental))
        result[folder.name] = [round(sdr(true, torch.from_numpy(estimate)), 2) for true, estimate in pairs]
    return result


def mean_of_mixes(model: nn.Module, validation: Path) -> list[float]:
    """The mean SDR of vocals and of instrumental over the mixes of step 6; empty without them."""
    songs = measured(model, validation / "mixes", "*/vocals.flac").values()
    return [round(sum(values) / len(values), 2) for values in zip(*songs, strict=True)]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=90, help="length of the whole training")
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--start-from", type=Path, metavar="FILE", help="weights of an earlier training")
    options = arguments.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    folder = options.output / "training"
    folder.mkdir(parents=True, exist_ok=True)
    songs = balanced(training_songs(options.output))

    model = load_model(options.start_from).requires_grad_() if options.start_from else AsymUNetMCT(MODEL)
    optimizers = optimizers_of(model)
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    step, elapsed, checkpoint = 0, 0.0, folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        step, elapsed = saved["step"], saved["elapsed"]
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)

    steps = 2 if options.quick else 1 << 40
    every = 1200.0 if not options.quick else 0.0
    losses: list[float] = []
    last = measure_at = time.monotonic()
    for batch in batches(songs, options.batch, step * options.batch):
        for optimizer, rate in zip(optimizers, rates, strict=True):
            left = 1 - elapsed / (60 * options.minutes)
            optimizer.param_groups[0]["lr"] = rate * rate_factor(step, left)
        loss = loss_of(model, batch)
        model.zero_grad()
        loss.backward()
        if not torch.isfinite(nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
            raise SystemExit(f"step {step}: the gradients are not finite; songs: {batch['songs']}")
        for optimizer in optimizers:
            optimizer.step()
        average.update_parameters(model)
        losses.append(loss.item())
        step += 1
        now = time.monotonic()
        elapsed, last = elapsed + now - last, now
        ended = elapsed >= 60 * options.minutes or step >= steps
        if now >= measure_at + every or ended:
            weights = {"model": model.state_dict(), "average": average.state_dict()}
            state = {"step": step, "elapsed": elapsed, "optimizers": [o.state_dict() for o in optimizers], **weights}
            torch.save(state, checkpoint.with_suffix(".part"))
            os.replace(checkpoint.with_suffix(".part"), checkpoint)
            save_model(average.module, folder / "model.safetensors", torch.float16)
            line = {"step": step, "minutes": round(elapsed / 60, 1), "loss": round(sum(losses) / len(losses), 4)}
            if len(losses) > 1:
                line |= measured(average.module, options.output / "validation")
                line |= {"mixes": mean_of_mixes(average.module, options.output / "validation")}
            print(json.dumps(line), flush=True)
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            losses = []
            measure_at = last = time.monotonic()  # measuring does not count
        if ended:
            break


if __name__ == "__main__":
    main()
