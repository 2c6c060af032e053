"""What all stages of training share: the network and the average of its weights, optimizer, schedule, checks."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from ..checkpoints import load_model, save_model
from ..errors import TrainingError
from ..models import MaskModelConfig, create_model
from .muon import split_kernels
from .schedule import warmup_polynomial
from .sharding import shard
from .spectrogram import Spectrogram, crop_scale

Batch = dict[str, Any]
OptimizerFactory = Callable[[Iterable], Optimizer]


def adam_w(parameters: Iterable) -> Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-2)


class Stage(lightning.LightningModule):
    """Base of the stages.

    The exponential moving average of the weights is a module beside the network, so that checkpoints, replicas and
    shards treat it like any other; validation and the finished model use it. All random numbers of a step depend on
    the seed, the step's number and the rank alone: a resumed run draws what an uninterrupted one would have.
    """

    task: Literal["separate", "pretrain"] = "separate"
    trainer: Any  # with a ScheduledData, whenever the methods below run

    def __init__(
        self,
        network: MaskModelConfig,
        initial_weights: str | None = None,
        optimizer: OptimizerFactory = adam_w,
        warmup_steps: int = 500,
        decay_power: float = 1.0,
        final_learning_rate: float = 0.01,
        average_decay: float = 0.999,
        gain: tuple[float, float] = (0.4, 1.0),
        gradient_checkpointing: bool = False,
    ):
        """
        Args:
            network: configuration of the model, of any family.
            initial_weights: a model file to start from, such as an earlier stage's; it must have the same network.
            optimizer: makes the optimizer; its learning rate is the peak.
            warmup_steps: over which the learning rate grows linearly.
            decay_power: of the polynomial by which it falls afterwards; final_learning_rate: at the end, over the peak.
            average_decay: of the moving average of the weights; less in the first steps, (1 + n) / (10 + n).
            gain: range of the largest magnitude of a crop. In a whole song it is rarely the song's largest, by
                which the separator divides.
            gradient_checkpointing: compute the activations of each block again in the backward pass, to save memory.
        """
        super().__init__()
        self.network = network
        self.optimizer_factory = optimizer
        self.warmup_steps, self.decay_power, self.final_learning_rate = warmup_steps, decay_power, final_learning_rate
        self.gain = gain
        self.spectrogram = Spectrogram(network.signal)
        self.model = create_model(network)
        if initial_weights is not None:
            copy_weights(self.model, initial_weights)
        self.average = AveragedModel(self.model, multi_avg_fn=partial(_move_average, average_decay))
        self.average.requires_grad_(False)
        if gradient_checkpointing:
            checkpoint_blocks(self.model)

    def configure_model(self) -> None:
        if self.device_mesh is not None and not isinstance(self.model, FSDPModule):
            for model in (self.model, self.average.module):
                shard(model, self.device_mesh["data_parallel"])

    # Of each batch

    def normalized(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mixture's spectrum, and the factor of it whose magnitudes the network reads: (batch, 1, 1, 1)."""
        mixture = self.spectrogram(batch["mixture"])
        scale = crop_scale(mixture[:, :, :-1].abs())
        gain = torch.ones_like(scale)
        if self.training:
            low, high = self.gain
            gain = low + (high - low) * torch.rand_like(scale)
        return mixture, gain / scale

    def losses(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The terms of the loss by name, "loss" being what is minimised."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(batch, batch_idx)
        if not torch.isfinite(losses["loss"]):
            raise TrainingError(
                self.report_batch(batch, {name: float(value.detach()) for name, value in losses.items()})
            )
        self.trainer.datamodule.batches_done += 1
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, prog_bar=False)
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False)
        return losses["loss"]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        data = self.trainer.datamodule
        place = [data.seed, self.current_epoch, data.batches_done, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

    def report_batch(self, batch: Batch, values: Mapping[str, float]) -> str:
        """Writes what a batch with a loss that is not finite was made of; returns the message for the user."""
        step, folder = self.global_step, Path(self.trainer.default_root_dir)
        path = folder / f"not-finite-step-{step:08d}-rank-{self.global_rank}.json"
        songs = list(batch["songs"])
        report = {"step": step, "songs": songs, "values": {name: str(value) for name, value in values.items()}}
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return (
            f"step {step}: the loss is not finite; the songs of the batch are in {path}. The last checkpoint is intact:"
            " continue from it with a lower learning rate, without mixed precision, or without these songs"
        )

    # Optimisation

    def configure_optimizers(self) -> Any:
        steps = self.trainer.estimated_stepping_batches if self.trainer.max_steps < 0 else self.trainer.max_steps
        groups = []
        for network, rate in self.networks().values():
            groups += [group | {"rate": rate} for group in split_kernels(network)]
        optimizer = self.optimizer_factory(groups)
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("rate")
        factor = warmup_polynomial(int(steps), self.warmup_steps, self.decay_power, self.final_learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def networks(self) -> dict[str, tuple[nn.Module, float]]:
        """What is trained, with its learning rate over the optimizer's; each one's gradient is clipped on its own."""
        return {"network": (self.model, 1.0)}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        for name, (network, _) in self.networks().items():
            norm = nn.utils.clip_grad_norm_(network.parameters(), gradient_clip_val or float("inf"))
            if isinstance(norm, DTensor):
                norm = norm.full_tensor()
            self.log(f"train/gradient_norm_{name}", norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        self.average.update_parameters(self.model)

    # The result

    def save(self, path: Path) -> None:
        """Writes the averaged model for the separator. All processes must call it, since each may hold a part."""
        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.average.module, options=whole)
        if self.trainer.is_global_zero:
            with torch.device("meta"):
                model = create_model(self.network)
            model.load_state_dict(weights, assign=True)
            save_model(model, path)


@torch.no_grad()
def _move_average(decay: float, averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
    rate = min(decay, (1 + int(steps)) / (10 + int(steps)))
    torch._foreach_lerp_(averages, current, 1 - rate)


def copy_weights(model: nn.Module, path: str) -> None:
    """Copies the weights of a model file. Raises ModelError where there is none, TrainingError where it differs."""
    source = load_model(path)
    if source.config != model.config and source.state_dict().keys() != model.state_dict().keys():
        raise TrainingError(f"{path}: its network is not that of model.network, so it cannot be started from")
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise TrainingError(
            f"{path}: its network is not that of model.network: {str(error).splitlines()[-1]}"
        ) from error


def checkpoint_blocks(model: nn.Module) -> None:
    """Recomputes every block of the network's lists of blocks in the backward pass (Chen et al. 2016)."""
    for blocks in model.children():
        if isinstance(blocks, nn.ModuleList):
            for block in blocks:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
