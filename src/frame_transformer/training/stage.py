"""Base class of the training stages: the network and its EMA, optimizer, schedule and checks."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import lightning
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
from ..models import MaskModel, MaskModelConfig, create_model, input_magnitudes
from .muon import split_kernels
from .sharding import shard
from .spectrogram import Spectrogram

Batch = dict[str, Any]
OptimizerFactory = Callable[[Iterable], Optimizer]


class Mixture(NamedTuple):
    """The mixtures of a batch.

    Attributes:
        spectrum: complex (batch, channels, n_fft / 2, time).
        inputs: the network's input, the :func:`input_magnitudes` of ``spectrum`` times ``factor``.
        factor: (batch, 1, 1, 1).
    """

    spectrum: Tensor
    inputs: Tensor
    factor: Tensor

    @property
    def magnitudes(self) -> Tensor:
        """The magnitudes of ``spectrum`` times ``factor``."""
        return self.inputs[:, : self.spectrum.shape[1]]


class Stage(lightning.LightningModule):
    """Base class of the stages: batches in, losses out.

    The exponential moving average (EMA) of the weights is a separate module, so that checkpoints, replicas and shards
    include it like any other; validation and the finished model use it. All random numbers of a step depend only on
    the crops of its batch, so that a resumed run draws what an uninterrupted one would have drawn.
    """

    task: Literal["separate", "pretrain"] = "separate"
    excerpt: dict[str, Tensor] | None = None
    """Mixture and estimated stems (channels, samples) of the last validation, for stages that separate."""
    trainer: Any

    def __init__(
        self,
        network: MaskModelConfig,
        initial_weights: str | None = None,
        optimizer: OptimizerFactory = torch.optim.AdamW,
        ema_decay: float = 0.999,
        gain: tuple[float, float] = (0.4, 1.0),
        gradient_checkpointing: bool = False,
    ):
        """
        Args:
            network: configuration of the model, of any family.
            initial_weights: a model file to start from, such as an earlier stage's, with the same network.
            optimizer: creates the optimizer; its learning rate is the peak of the :class:`Schedule`.
            ema_decay: decay of the EMA of the weights; at most (1 + n) / (10 + n) at step n.
            gain: range of a random factor of the normalised magnitudes, see :meth:`Spectrogram.random_gain`.
            gradient_checkpointing: recompute the activations of each block in the backward pass, to save memory.
        """
        super().__init__()
        self.network = network
        self.optimizer_factory = optimizer
        self.gain = gain
        self.spectrogram = Spectrogram(network.signal)
        self.model = create_model(network)
        if initial_weights is not None:
            copy_weights(self.model, initial_weights)
        self.ema = AveragedModel(self.model, multi_avg_fn=partial(_update_ema, ema_decay))
        self.ema.requires_grad_(False)
        if gradient_checkpointing:
            checkpoint_blocks(self.model)

    def configure_model(self) -> None:
        if self.device_mesh is not None and not isinstance(self.model, FSDPModule):
            for model in (self.model, cast(MaskModel, self.ema.module)):
                shard(model, self.device_mesh["data_parallel"])

    # Of each batch

    def read(self, batch: Batch) -> Mixture:
        """Spectra and normalised magnitudes of the mixtures, the latter in training with a random gain."""
        spectrum = self.spectrogram(batch["mixture"])
        inputs = input_magnitudes(spectrum, self.network.signal)
        factor = 1 / self.spectrogram.scale(inputs[:, : spectrum.shape[1]])
        if self.training:
            factor = factor * self.spectrogram.random_gain(self.gain, factor)
        return Mixture(spectrum, inputs * factor, factor)

    def estimate(self, inputs: Tensor) -> Tensor:
        """(batch, inputs, n_fft / 2, time) → the mask, from the network in training and otherwise from its EMA."""
        model = self.model if self.training else self.ema.module
        return model(inputs).float().sigmoid()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms by name: "loss" is minimised, the others are only logged."""
        raise NotImplementedError

    def shown(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the progress line shows: the loss, then the SDR (dB) of each stem."""
        return {"loss": losses["loss"].detach()}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        losses = self.losses(batch)
        if not torch.isfinite(losses["loss"]):
            raise TrainingError(
                self.report_batch(batch, {name: float(value.detach()) for name, value in losses.items()})
            )
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()})
        return {"loss": losses["loss"], "shown": self.shown(losses)}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed(int(batch["seed"][0]))

    def report_batch(self, batch: Batch, values: Mapping[str, float]) -> str:
        """Writes a report about a batch whose loss is not finite; returns the message for the user."""
        step, folder = self.global_step, Path(self.trainer.default_root_dir)
        path = folder / f"not-finite-step-{step:08d}-rank-{self.global_rank}.json"
        songs = list(batch["songs"])
        report = {"step": step, "songs": songs, "values": {name: str(value) for name, value in values.items()}}
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return (
            f"step {step}: the loss is not finite; the songs of the batch are in {path}. The last checkpoint is intact:"
            " continue with --resume auto and a lower learning rate, without mixed precision, or without these songs"
        )

    # Optimisation

    def configure_optimizers(self) -> Any:
        groups = []
        for network, rate in self.networks().values():
            groups += [group | {"rate": rate} for group in split_kernels(network)]
        optimizer = self.optimizer_factory(groups)
        self.peak_learning_rates = [group["lr"] * group.pop("rate") for group in optimizer.param_groups]
        return optimizer

    def networks(self) -> dict[str, tuple[nn.Module, float]]:
        """What is trained, with the ratio of its learning rate to the optimizer's. Gradients are clipped separately."""
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
        self.ema.update_parameters(self.model)

    # The result

    def save(self, path: Path) -> None:
        """Writes the model with the EMA of the weights. All processes must call it, because each may hold a part."""
        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = get_model_state_dict(self.ema.module, options=whole)
        if self.trainer.is_global_zero:
            with torch.device("meta"):
                model = create_model(self.network)
            model.load_state_dict(weights, assign=True)
            save_model(model, path)


@torch.no_grad()
def _update_ema(decay: float, ema: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
    rate = min(decay, (1 + int(steps)) / (10 + int(steps)))
    torch._foreach_lerp_(ema, current, 1 - rate)


def copy_weights(model: MaskModel, path: str) -> None:
    """Copies the weights of a model file.

    Raises:
        ModelError: it cannot be loaded. TrainingError: its network differs from that of ``model``.
    """
    source = load_model(path)
    if source.config != model.config and source.state_dict().keys() != model.state_dict().keys():
        raise TrainingError(f"--model.initial_weights {path}: its network is not that of --model.network")
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise TrainingError(
            f"--model.initial_weights {path}: its network is not that of --model.network: {str(error).splitlines()[-1]}"
        ) from error


def checkpoint_blocks(model: MaskModel) -> None:
    """Recomputes every block of the network in the backward pass (Chen et al. 2016)."""
    for block in model.blocks():
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
