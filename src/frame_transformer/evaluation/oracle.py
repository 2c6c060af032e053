"""Oracle masks, computed from the true stems: an upper bound for models that mask magnitudes."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Oracle = Literal["irm", "ibm"]


def oracle_vocals(
    kind: Oracle, mixture: np.ndarray, vocals: np.ndarray, instrumental: np.ndarray, n_fft: int, hop_length: int
) -> np.ndarray:
    """The vocals that an ideal mask extracts from the mixture; all are float32 (channels, samples).

    ``"irm"``: the ideal ratio mask of magnitudes, |V| / (|V| + |I|). ``"ibm"``: the ideal binary mask, 1 where
    |V| > |I|. Vincent, Gribonval and Plumbley, "Oracle estimators for the benchmarking of source separation
    algorithms", Signal Processing 87(8), 2007.
    """
    window = torch.hann_window(n_fft)
    samples = mixture.shape[1]
    # Reflection needs half a window; where the last hop is not whole, its end lies under one window's vanishing edge.
    length = max(samples + -samples % hop_length, n_fft)

    def spectrum(signal: np.ndarray) -> Tensor:
        padded = np.pad(signal, ((0, 0), (0, length - samples)))
        return torch.stft(torch.from_numpy(padded), n_fft, hop_length, window=window, return_complex=True)

    voice, rest = spectrum(vocals).abs(), spectrum(instrumental).abs()
    mask = voice / (voice + rest).clamp_min(1e-12) if kind == "irm" else (voice > rest).float()
    estimate = torch.istft(spectrum(mixture) * mask, n_fft, hop_length, window=window, length=length)
    return estimate[:, :samples].numpy()
