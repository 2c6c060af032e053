"""Which choices of step 5 pay: each variant is trained from scratch for the same processor time, then measured.

    python recipes/default/ablations.py --output DATA --seconds 300

Runs in the environment of the project, on the folders of steps 1 to 4 and the validation mixes of step 6. One line a
variant goes to DATA/ablations.jsonl: its utterance SDR of vocals and instrumental on the kept-out song, on the real
excerpt and the mean of the mixes; variants that are there already are left out. Processor time, so that other work on
the machine does not count.
"""

import importlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from common import parser
from torch import Tensor, nn

from frame_transformer.data import CropConfig, Effect, PreparedSong, VoxAugConfig, read_prepared
from frame_transformer.data.voxaug import NO_EFFECTS, NO_MIX_EFFECTS
from frame_transformer.models import AsymUNetMCT, AsymUNetMCTConfig, SignalConfig, WindowConfig
from frame_transformer.training.pretraining import Corruption, corrupt

step_5 = importlib.import_module("05_train")


def magnitude_loss(model: AsymUNetMCT, batch: dict[str, Tensor]) -> Tensor:
    """L1 between the masked mixture's and the instrumental's magnitudes, over the mean of the mixture's."""
    mixture, instrumental = (step_5.spectrogram(batch[name], model.config) for name in ("mixture", "instrumental"))
    magnitude = mixture.abs()
    level = step_5.random_level(magnitude)
    masked = model(magnitude / level).sigmoid() * magnitude
    return (masked - instrumental.abs()).abs().mean() / magnitude.mean().clamp_min(1e-6)


def restoration_loss(model: AsymUNetMCT, batch: dict[str, Tensor]) -> Tensor:
    """L1 where spans of the mixture's frames and bands were spoilt, a tenth of it elsewhere."""
    magnitude = step_5.spectrogram(batch["mixture"], model.config).abs()
    magnitude = magnitude / step_5.random_level(magnitude)
    spoilt, where = corrupt(magnitude, Corruption())
    error = (model(spoilt).sigmoid() - magnitude).abs().mean(1, keepdim=True)
    return (error * where).sum() / where.sum().clamp_min(1) + 0.1 * error.mean()


def everything(songs: list[PreparedSong]) -> list[PreparedSong]:
    return songs


def only_real_voices(songs: list[PreparedSong]) -> list[PreparedSong]:
    return [song for song in songs if song.role != "vocals"]


def only_synthetic_voices(songs: list[PreparedSong]) -> list[PreparedSong]:
    return [song for song in songs if song.role != "songs"]


@dataclass(frozen=True)
class Variant:
    """One choice that differs from step 5."""

    model: AsymUNetMCTConfig = step_5.MODEL
    loss: Callable[[AsymUNetMCT, dict[str, Tensor]], Tensor] = step_5.loss_of
    muon: bool = True
    voxaug: VoxAugConfig = step_5.VOXAUG
    songs: Callable[[list[PreparedSong]], list[PreparedSong]] = everything
    crops: CropConfig = step_5.CROPS
    real_voices: float = step_5.REAL_VOICE_SHARE
    pretraining: float = 0.0  # share of the time
    batch_size: int = 4


VARIANTS = {
    "as in step 5": Variant(),
    "n_fft 2048, hop 1024": Variant(
        replace(step_5.MODEL, signal=SignalConfig(n_fft=2048, hop_length=1024), window=WindowConfig(512, 64))
    ),
    "patches of 16 bins": Variant(replace(step_5.MODEL, bands=((2048, 16),))),
    "upper levels twice as wide": Variant(replace(step_5.MODEL, widths=(48, 64, 64, 64, 96, 128, 128))),
    "real voices 60 %, same song 25 %": Variant(real_voices=0.6, crops=replace(step_5.CROPS, same_song=0.25)),
    "real voices 30 %, same song 10 %": Variant(real_voices=0.3, crops=replace(step_5.CROPS, same_song=0.1)),
    "real voices 15 %, same song 10 %": Variant(real_voices=0.15, crops=replace(step_5.CROPS, same_song=0.1)),
    "two attention maps": Variant(replace(step_5.MODEL, attention_maps=2)),
    "no latent layers": Variant(replace(step_5.MODEL, latent_layers=0)),
    "L1 of magnitudes alone": Variant(loss=magnitude_loss),
    "AdamW alone": Variant(muon=False),
    "no VoxAug effects": Variant(
        voxaug=replace(step_5.VOXAUG, instrumental=NO_EFFECTS, vocals=NO_EFFECTS, mix=NO_MIX_EFFECTS, speed=Effect(0.0))
    ),
    "a third of the time pretraining": Variant(pretraining=1 / 3),
    "real voices only": Variant(songs=only_real_voices),
    "synthetic voices only": Variant(songs=only_synthetic_voices),
    "batches of 2": Variant(batch_size=2),
}


def train(variant: Variant, songs: list[PreparedSong], seconds: float) -> tuple[nn.Module, int]:
    """Returns the average of the weights, and the steps taken."""
    torch.manual_seed(0)
    model = AsymUNetMCT(variant.model)
    optimizers = step_5.optimizers_of(model)
    if not variant.muon:
        optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0)]
    rates = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98))
    started = time.process_time()
    for step, batch in enumerate(
        step_5.batches(songs, variant.batch_size, effects=variant.voxaug, crops=variant.crops)
    ):
        spent = (time.process_time() - started) / seconds
        if spent >= 1:
            return average.module, step
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * step_5.rate_factor(step, 1 - spent)
        loss = restoration_loss if spent < variant.pretraining else variant.loss
        model.zero_grad()
        loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average.update_parameters(model)
    raise AssertionError("batches have no end")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seconds", type=float, default=300, help="processor time of each training")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    report = options.output / "ablations.jsonl"
    known = [json.loads(line)["variant"] for line in report.read_text().splitlines()] if report.exists() else []
    songs = read_prepared(options.output / "prepared")
    for name, variant in VARIANTS.items():
        if name in known:
            continue
        chosen = step_5.balanced(variant.songs(songs), variant.real_voices)
        model, steps = train(variant, chosen, 5 if options.quick else options.seconds)
        validation = options.output / "validation"
        line = {"variant": name, "steps": steps, **step_5.measured(model, validation)}
        line |= {"mixes": step_5.mean_of_mixes(model, validation)}
        print(json.dumps(line), flush=True)
        with report.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
