"""Losses of separated crops. All are means over their elements, so that their scale does not depend on the crop."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the supervised loss; a term with weight 0 is not computed.

    Attributes:
        instrumental: L1 between masked mixture and instrumental magnitudes, both over the crop's largest magnitude:
            the loss of the original research.
        vocals: the same between what the mask leaves and the magnitudes of the vocals.
        multi_resolution: :func:`multi_resolution_stft` of the instrumental.
        waveform: L1 between samples of the instrumental, over the RMS of the mixture.
    """

    instrumental: float = 1.0
    vocals: float = 0.0
    multi_resolution: float = 0.0
    waveform: float = 0.0

    @property
    def waveforms(self) -> bool:
        """Whether a term needs the inverse transform."""
        return self.multi_resolution > 0 or self.waveform > 0


def multi_resolution_stft(estimate: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence plus L1 of log magnitudes, averaged over three resolutions.

    After Yamamoto et al. 2020, "Parallel WaveGAN", section 3.2. Shapes: (batch, channels, samples), both.
    """
    estimate, target = estimate.flatten(0, 1), target.flatten(0, 1)
    total = estimate.new_zeros(())
    for n_fft, hop, window_length in RESOLUTIONS:
        window = torch.hann_window(window_length, device=estimate.device)
        magnitudes = [
            # Squared magnitudes are kept from zero, where the gradient of a square root is infinite.
            torch.stft(x, n_fft, hop, window_length, window, return_complex=True).abs().square().clamp_min(1e-7).sqrt()
            for x in (estimate, target)
        ]
        convergence = (magnitudes[1] - magnitudes[0]).norm() / magnitudes[1].norm()
        total = total + convergence + functional.l1_loss(magnitudes[0].log(), magnitudes[1].log())
    return total / len(RESOLUTIONS)
