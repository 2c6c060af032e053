"""The supervised stage: a mask that turns mixtures into instrumentals."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.audio import signal_noise_ratio

from .losses import LossWeights, error_ratio, multi_resolution_stft, relative_distance
from .spectrogram import apply_mask
from .stage import Batch, Stage


class Supervised(Stage):
    """Learns the instrumental mask from mixtures whose stems are known."""

    def __init__(self, *args: Any, loss: LossWeights = LossWeights(), **kwargs: Any):  # noqa: B008 - frozen
        """
        Args:
            loss: weights of the loss's terms.
        """
        super().__init__(*args, **kwargs)
        self.loss = loss

    def losses(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        mixture, factor = self.normalized(batch)
        mask = self.model(mixture[:, :, :-1].abs() * factor).float().sigmoid()
        return self.mask_losses(mask, mixture, factor, batch)

    def mask_losses(self, mask: Tensor, mixture: Tensor, factor: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms with a weight, and their weighted sum as "loss".

        mask (batch, channels, n_fft / 2, time), mixture (batch, channels, n_fft / 2 + 1, time), factor
        (batch, 1, 1, 1).
        """
        weights = self.loss
        whole, losses = mixture[:, :, :-1], {}
        stems = {name: self.spectrogram(batch[name])[:, :, :-1] for name in ("instrumental", "vocals")}
        for name, part in (("instrumental", mask), ("vocals", 1 - mask)):
            if getattr(weights, name):
                losses[name] = functional.l1_loss(part * whole.abs() * factor, stems[name].abs() * factor)
        if weights.sdr:
            losses["sdr"] = error_ratio(mask * whole, stems["instrumental"], whole)
        if weights.relative:
            losses["relative"] = relative_distance(mask * whole, stems["instrumental"], stems["vocals"], whole)
        if weights.waveforms:
            target = batch["instrumental"]
            estimate = self.spectrogram.inverse(apply_mask(mask, mixture), target.shape[-1])
            if weights.multi_resolution:
                losses["multi_resolution"] = multi_resolution_stft(estimate, target)
            if weights.waveform:
                level = batch["mixture"].square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-4)
                losses["waveform"] = ((estimate - target).abs() / level).mean()
        total = sum(getattr(weights, name) * value for name, value in losses.items())
        return {"loss": torch.as_tensor(total), **losses}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss and the SDR (dB, mean over crops of 10·log10 of energy over energy of the error)."""
        mixture, factor = self.normalized(batch)
        mask = self.average.module(mixture[:, :, :-1].abs() * factor).float().sigmoid()
        losses = self.mask_losses(mask, mixture, factor, batch)
        instrumental = self.spectrogram.inverse(apply_mask(mask, mixture), batch["mixture"].shape[-1])
        estimates = {"instrumental": instrumental, "vocals": batch["mixture"] - instrumental}
        metrics = {f"validation/{name}": value for name, value in losses.items()}
        for name, estimate in estimates.items():
            ratio = signal_noise_ratio(estimate.flatten(1), batch[name].flatten(1))
            metrics[f"validation/sdr_{name}"] = ratio.mean()
        self.log_dict(metrics, on_epoch=True, sync_dist=True, batch_size=len(mask))
        if batch_idx == 0:
            self.excerpt = {"mixture": batch["mixture"][0], **{name: stem[0] for name, stem in estimates.items()}}
