"""The supervised stage: a mask that turns mixtures into instrumentals."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.audio import signal_noise_ratio

from .losses import LossWeights, energy, error_ratio, multi_resolution_stft, relative_distance
from .stage import Batch, Mixture, Stage

STEMS = ("vocals", "instrumental")


class Supervised(Stage):
    """Learns the mask of the instrumental from mixtures with known stems."""

    def __init__(self, *args: Any, loss: LossWeights = LossWeights(), **kwargs: Any):  # noqa: B008 - frozen
        """
        Args:
            loss: weights of the terms of the loss.
        """
        super().__init__(*args, **kwargs)
        self.loss = loss

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        mixture = self.read(batch)
        return self.mask_losses(self.estimate(mixture.inputs), mixture, batch)

    def mask_losses(self, mask: Tensor, mixture: Mixture, batch: Batch) -> dict[str, Tensor]:
        """The terms of the loss that have a weight, their weighted sum, and the SDR of both stems over the batch in dB.

        mask: (batch, channels, n_fft / 2, time).
        """
        weights, losses = self.loss, {}
        spectrum, masked = mixture.spectrum, mask * mixture.spectrum
        stems = {name: self.spectrogram(batch[name]) for name in STEMS}
        for name, part in zip(STEMS, (1 - mask, mask), strict=True):
            if getattr(weights, name):
                losses[name] = functional.l1_loss(part * mixture.magnitudes, stems[name].abs() * mixture.factor)
        if weights.sdr:
            losses["sdr"] = error_ratio(masked, stems["instrumental"], spectrum)
        if weights.relative:
            losses["relative"] = relative_distance(masked, stems["instrumental"], stems["vocals"], spectrum)
        if weights.multi_resolution or weights.waveform:
            target = batch["instrumental"]
            estimate = self.spectrogram.inverse(masked, target.shape[-1])
            if weights.multi_resolution:
                losses["multi_resolution"] = multi_resolution_stft(estimate, target)
            if weights.waveform:
                level = batch["mixture"].square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-4)
                losses["waveform"] = ((estimate - target).abs() / level).mean()
        total = sum(getattr(weights, name) * value for name, value in losses.items())
        error = energy(masked.detach() - stems["instrumental"])
        ratios = {f"sdr_{name}": 10 * (energy(stem) / error).log10() for name, stem in stems.items()}
        return {"loss": torch.as_tensor(total), **losses, **ratios}

    def shown(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super().shown(losses) | {name: losses[f"sdr_{name}"] for name in STEMS}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss and the SDR of both stems in dB, the mean over crops."""
        mixture = self.read(batch)
        mask = self.estimate(mixture.inputs)
        instrumental = self.spectrogram.inverse(mask * mixture.spectrum, batch["mixture"].shape[-1])
        estimates = {"vocals": batch["mixture"] - instrumental, "instrumental": instrumental}
        metrics = self.mask_losses(mask, mixture, batch) | self.mask_metrics(mask, batch)
        for name, estimate in estimates.items():
            metrics[f"sdr_{name}"] = signal_noise_ratio(estimate.flatten(1), batch[name].flatten(1)).mean()
        self.log_dict(
            {f"validation/{name}": value for name, value in metrics.items()},
            on_epoch=True, sync_dist=True, batch_size=len(mask),
        )  # fmt: skip
        if batch_idx == 0:
            self.excerpt = {name: stem[0] for name, stem in ({"mixture": batch["mixture"]} | estimates).items()}

    def mask_metrics(self, mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Further metrics of a mask for validation."""
        return {}
