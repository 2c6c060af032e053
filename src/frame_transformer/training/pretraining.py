"""Self-supervised pretraining: the network restores corrupted spans of frames and bands."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .stage import Batch, Stage


@dataclass(frozen=True)
class Corruption:
    """Corruption of the magnitudes of a crop.

    Attributes:
        time_share: share of the frames in corrupted spans. time_span: frames in a span.
        band_share: share of the bins in corrupted bands. band_span: share of all bins in a band.
        noise, swap: shares of the spans that get noise added, or another crop's magnitudes, instead of silence.
        noise_level: standard deviation of the noise that is added to normalised magnitudes.
    """

    time_share: float = 0.3
    time_span: int = 8
    band_share: float = 0.15
    band_span: float = 0.03
    noise: float = 0.2
    swap: float = 0.1
    noise_level: float = 0.1


def corrupt(magnitudes: Tensor, config: Corruption) -> tuple[Tensor, Tensor]:
    """Corrupts spans of frames and bands, alike in all channels.

    A span is silenced, replaced by another crop, or covered with noise. The first two correspond to masks and random
    tokens in BERT (Devlin et al. 2018, section 3.1), the last to denoising (Asiedu et al. 2022, "Decoder denoising
    pretraining for semantic segmentation").

    Returns:
        the corrupted magnitudes (batch, channels, frequency, time), and where, as bool (batch, 1, frequency, time).
    """
    batch, _, bins, frames = magnitudes.shape
    device = magnitudes.device
    time = _spans(batch, frames, config.time_share, min(config.time_span, frames), device)
    bands = _spans(batch, bins, config.band_share, max(1, round(config.band_span * bins)), device)
    # The kind of a span is drawn at its start, so that each span has one kind.
    kind = torch.maximum(time[:, None, None, :], bands[:, None, :, None])
    spoilt = kind >= 0
    noisy = magnitudes + config.noise_level * torch.randn_like(magnitudes).abs()
    out = torch.where(spoilt, torch.zeros_like(magnitudes), magnitudes)
    out = torch.where(spoilt & (kind < config.noise + config.swap), magnitudes.roll(1, dims=0), out)
    return torch.where(spoilt & (kind < config.noise), noisy, out), spoilt


def _spans(batch: int, length: int, share: float, span: int, device: torch.device) -> Tensor:
    """(batch, length): −1 outside the spans, and inside each span one random number in [0, 1)."""
    begins = torch.rand(batch, length, device=device) < share / span
    kinds = torch.where(begins, torch.rand(batch, length, device=device), -torch.ones((), device=device))
    padded = torch.nn.functional.pad(kinds, (span - 1, 0), value=-1.0)
    return padded.unfold(1, span, 1).amax(dim=-1)


class Pretraining(Stage):
    """Learns to restore corrupted music. The sigmoid of the logits is the magnitude itself in this stage."""

    task = "pretrain"

    def __init__(
        self,
        *args: Any,
        corruption: Corruption = Corruption(),
        intact_weight: float = 0.1,
        **kwargs: Any,
    ):
        """
        Args:
            corruption: settings of the corruption.
            intact_weight: weight of the L1 loss outside corrupted spans, relative to 1 inside.
        """
        super().__init__(*args, **kwargs)
        self.corruption, self.intact_weight = corruption, intact_weight

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean error inside and outside corrupted spans, and their weighted sum."""
        mixture = self.read(batch)
        spoilt, where = corrupt(mixture.inputs, self.corruption)
        error = (self.estimate(spoilt) - mixture.magnitudes).abs().mean(dim=1, keepdim=True)
        restored = (error * where).sum() / where.sum().clamp_min(1)
        intact = (error * ~where).sum() / (~where).sum().clamp_min(1)
        return {"loss": restored + self.intact_weight * intact, "restored": restored, "intact": intact}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss on validation songs, which are corrupted in the same way every time."""
        torch.manual_seed(batch_idx)
        metrics = {f"validation/{name}": value for name, value in self.losses(batch).items()}
        self.log_dict(metrics, on_epoch=True, sync_dist=True, batch_size=len(batch["mixture"]))
