"""The self-supervised stage: spans of frames and bands are hidden or spoilt, the network restores them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .stage import Batch, Stage


@dataclass(frozen=True)
class Corruption:
    """What is done to the magnitudes of a crop.

    Attributes:
        time_share: share of the frames in spoilt spans. time_span: frames of a span.
        band_share: share of the bins in spoilt bands. band_span: share of all bins in a band.
        noise, swap: shares of the spans that get noise added, or another crop's magnitudes, instead of silence.
        noise_level: standard deviation of the noise, over the crop's largest magnitude.
    """

    time_share: float = 0.3
    time_span: int = 8
    band_share: float = 0.15
    band_span: float = 0.03
    noise: float = 0.2
    swap: float = 0.1
    noise_level: float = 0.1


def corrupt(magnitudes: Tensor, config: Corruption) -> tuple[Tensor, Tensor]:
    """Spoils spans of frames and bands, alike in all channels.

    Silence, another crop in its place, or noise: the first two are BERT's masks and random tokens (Devlin et al. 2018,
    section 3.1), the last is the denoising of decoder pretraining (Asiedu et al. 2022).

    Returns:
        the spoilt magnitudes (batch, channels, frequency, time), and where, as bool (batch, 1, frequency, time).
    """
    batch, _, bins, frames = magnitudes.shape
    device = magnitudes.device
    time = _spans(batch, frames, config.time_share, min(config.time_span, frames), device)
    bands = _spans(batch, bins, config.band_share, max(1, round(config.band_span * bins)), device)
    # Each span draws its kind where it begins, so that it is of one kind throughout.
    kind = torch.maximum(time[:, None, None, :], bands[:, None, :, None])
    spoilt = kind >= 0
    noisy = magnitudes + config.noise_level * torch.randn_like(magnitudes).abs()
    out = torch.where(spoilt, torch.zeros_like(magnitudes), magnitudes)
    out = torch.where(spoilt & (kind < config.noise + config.swap), magnitudes.roll(1, dims=0), out)
    return torch.where(spoilt & (kind < config.noise), noisy, out), spoilt


def _spans(batch: int, length: int, share: float, span: int, device: torch.device) -> Tensor:
    """(batch, length): −1 outside the spans, inside a number in [0, 1) that all of a span have in common."""
    begins = torch.rand(batch, length, device=device) < share / span
    kinds = torch.where(begins, torch.rand(batch, length, device=device), -torch.ones((), device=device))
    padded = torch.nn.functional.pad(kinds, (span - 1, 0), value=-1.0)
    return padded.unfold(1, span, 1).amax(dim=-1)


class Pretraining(Stage):
    """Learns music by restoring what was spoilt in it; the sigmoid of the logits is the magnitude itself here."""

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
            corruption: what is spoilt.
            intact_weight: weight of the L1 loss where nothing was spoilt, against 1 where something was.
        """
        super().__init__(*args, **kwargs)
        self.corruption, self.intact_weight = corruption, intact_weight

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean error where the magnitudes were spoilt and where they were not, and their weighted sum."""
        magnitudes = self.read(batch).magnitudes
        spoilt, where = corrupt(magnitudes, self.corruption)
        error = (self.estimate(spoilt) - magnitudes).abs().mean(dim=1, keepdim=True)
        restored = (error * where).sum() / where.sum().clamp_min(1)
        intact = (error * ~where).sum() / (~where).sum().clamp_min(1)
        return {"loss": restored + self.intact_weight * intact, "restored": restored, "intact": intact}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Logs the loss on spoilt validation songs, spoilt alike every time."""
        torch.manual_seed(batch_idx)
        metrics = {f"validation/{name}": value for name, value in self.losses(batch).items()}
        self.log_dict(metrics, on_epoch=True, sync_dist=True, batch_size=len(batch["mixture"]))
