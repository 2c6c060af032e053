"""Metrics of separated stems; signals are float32 (channels, samples) at 44.1 kHz."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SAMPLE_RATE = 44_100
CHALLENGE_EPSILON = 1e-7
MEL_FLOOR = 1e-10
MEL_RANGE_DB = 80.0
MEL_FRAMES_AT_ONCE = 1024


def utterance_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-distortion ratio over the whole song in dB, NaN for a silent reference.

    The metric of the Music Demixing Challenge, with its 1e-7 added to both energies: Mitsufuji et al., "Music Demixing
    Challenge 2021", Frontiers in Signal Processing 1, 2022, equation 1.
    """
    signal = _energy(reference)
    if signal == 0:
        return math.nan
    error = _energy(reference.astype(np.float64) - estimate)
    return 10 * math.log10((signal + CHALLENGE_EPSILON) / (error + CHALLENGE_EPSILON))


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio over the whole song in dB, one scale for all channels.

    Le Roux et al., "SDR – half-baked or well done?", ICASSP 2019, equation 5; NaN where reference or estimate is
    silent, infinite where the estimate is the reference times a number.
    """
    truth = reference.astype(np.float64)
    if _energy(reference) == 0 or _energy(estimate) == 0:
        return math.nan
    target = truth * (np.vdot(truth, estimate) / np.vdot(truth, truth))
    error = _energy(estimate - target)
    if error == 0:
        return math.inf
    signal = _energy(target)
    return 10 * math.log10(signal / error) if signal else -math.inf


def bleedless_and_fullness(reference: np.ndarray, estimate: np.ndarray) -> tuple[float, float]:
    """How little the estimate has of what is not in the reference, and how much of what is: 0 to 100, 100 is best.

    Both compare mel spectrograms in dB (4096-point Hann, hop 1024, 512 Slaney bands, the loudest 80 dB of each):
    bleedless is 100 / (1 + mean of the positive differences), fullness 100 / (1 + mean size of the negative ones). This
    is the definition of the project ZFTurbo/Music-Source-Separation-Training (``utils/metrics.py``, function
    ``bleed_full``), which leaderboards use; there is no publication. NaN for a silent reference.
    """
    if _energy(reference) == 0:
        return math.nan, math.nan
    difference = _mel_decibels(estimate) - _mel_decibels(reference)
    more, less = difference[difference > 0], difference[difference < 0]
    bleed = more.mean().item() if len(more) else 0.0
    loss = -less.mean().item() if len(less) else 0.0
    return 100 / (1 + bleed), 100 / (1 + loss)


def _energy(signal: np.ndarray) -> float:
    return float(np.sum(np.square(signal, dtype=np.float64)))


def _mel_decibels(signal: np.ndarray, n_fft: int = 4096, hop_length: int = 1024, bands: int = 512) -> Tensor:
    """(channels, bands, frames) in dB, nothing further than `MEL_RANGE_DB` below the loudest."""
    padded = torch.nn.functional.pad(torch.from_numpy(signal), (n_fft // 2, n_fft // 2))
    frames = padded.unfold(1, n_fft, hop_length)
    window, filters = torch.hann_window(n_fft), _mel_filters(n_fft, bands)
    parts = [
        filters @ torch.fft.rfft(part * window).abs().transpose(1, 2)
        for part in frames.split(MEL_FRAMES_AT_ONCE, dim=1)
    ]
    decibels = 20 * torch.cat(parts, dim=2).clamp_min(MEL_FLOOR).log10()
    return decibels.clamp_min(decibels.max() - MEL_RANGE_DB)


@lru_cache
def _mel_filters(n_fft: int, bands: int) -> Tensor:
    """Triangular filters of equal area, (bands, n_fft / 2 + 1), evenly spaced on Slaney's mel scale.

    The scale of Slaney's Auditory Toolbox (1998): linear below 1 kHz, logarithmic above, 27 steps for a factor of 6.4.
    """
    step, corner, ratio = 200 / 3, 1000.0, math.log(6.4) / 27
    corner_mel = corner / step
    highest = corner_mel + math.log(SAMPLE_RATE / 2 / corner) / ratio
    mels = torch.linspace(0, highest, bands + 2, dtype=torch.float64)
    edges = torch.where(mels < corner_mel, mels * step, corner * torch.exp(ratio * (mels - corner_mel)))
    frequencies = torch.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = torch.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    return (triangles.clamp_min(0) * 2 / (high - low)).float()
