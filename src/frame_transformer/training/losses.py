"""Losses of separated crops. Their scale does not depend on the length of the crop."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of the supervised loss; a term with weight 0 is not computed.

    Attributes:
        instrumental: L1 between the normalised magnitudes of masked mixture and instrumental: the loss of the original
            research.
        vocals: the same for what the mask removes and the vocals.
        multi_resolution: :func:`multi_resolution_stft` of the instrumental.
        waveform: L1 between samples of the instrumental, over the RMS of the mixture.
        sdr: :func:`error_ratio` of the spectra.
        relative: :func:`relative_distance` of the magnitudes of both stems.
    """

    instrumental: float = 1.0
    vocals: float = 0.0
    multi_resolution: float = 0.0
    waveform: float = 0.0
    sdr: float = 0.0
    relative: float = 0.0


def energy(spectrum: Tensor) -> Tensor:
    """Sum of the squared magnitudes of a whole batch; never 0."""
    return torch.view_as_real(spectrum).square().sum().clamp_min(1e-9)


def error_ratio(masked: Tensor, instrumental: Tensor, mixture: Tensor) -> Tensor:
    """log10 of the energy of the error over that of the mixture: −0.1 × a signal-to-distortion ratio in dB.

    Both stems have the same error, so one ratio is enough. With an L1 distance of magnitudes alone, an uncertain
    network leaves quiet voices in the instrumental; with squared errors it estimates the expected mask. The ratio is
    limited to −30 dB, because crops without voice would outweigh the others.

    Takes complex spectra (batch, channels, frequency, time); returns the mean over the batch.
    """
    whole = mixture.abs().square().sum((1, 2, 3)).clamp_min(1e-3)
    error = (masked - instrumental).abs().square().sum((1, 2, 3))
    return (error / whole + 1e-3).log10().mean()


def relative_distance(masked: Tensor, instrumental: Tensor, vocals: Tensor, mixture: Tensor) -> Tensor:
    """L1 of the magnitudes of both stems, over the mixture's, so that quiet crops count as much as loud ones.

    Takes complex spectra (batch, channels, frequency, time); returns the mean over the batch.
    """
    distance = (masked.abs() - instrumental.abs()).abs() + ((mixture - masked).abs() - vocals.abs()).abs()
    return (distance.sum((1, 2, 3)) / mixture.abs().sum((1, 2, 3)).clamp_min(1e-3)).mean()


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
