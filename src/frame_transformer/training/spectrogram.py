"""Batched spectrograms of training crops, in the conventions of the separator."""

import torch
from torch import Tensor, nn

from ..models import SignalConfig

# A silent crop is divided by this instead of by its maximum.
SILENCE = 1e-6


class Spectrogram(nn.Module):
    """The short-time Fourier transform that a model reads (periodic Hann window, centred, reflect padding)."""

    window: Tensor

    def __init__(self, signal: SignalConfig):
        super().__init__()
        self.n_fft, self.hop_length = signal.n_fft, signal.hop_length
        self.register_buffer("window", torch.hann_window(signal.n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (batch, channels, samples) → complex64 (batch, channels, n_fft / 2 + 1, 1 + samples // hop)."""
        spectrum = torch.stft(
            x.flatten(0, 1), self.n_fft, self.hop_length, window=self.window, return_complex=True, pad_mode="reflect"
        )
        return spectrum.unflatten(0, x.shape[:2])

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """(batch, channels, n_fft / 2 + 1, time) → (batch, channels, samples)."""
        x = torch.istft(spectrum.flatten(0, 1), self.n_fft, self.hop_length, window=self.window, length=samples)
        return x.unflatten(0, spectrum.shape[:2])


def crop_scale(magnitudes: Tensor) -> Tensor:
    """The largest magnitude of each crop of (batch, channels, frequency, time): (batch, 1, 1, 1)."""
    return magnitudes.amax(dim=(1, 2, 3), keepdim=True).clamp_min(SILENCE)


def apply_mask(mask: Tensor, spectrum: Tensor) -> Tensor:
    """Masks all bins but Nyquist, which goes to neither network nor instrumental.

    mask (batch, channels, n_fft / 2, time), spectrum (batch, channels, n_fft / 2 + 1, time) → as the spectrum.
    """
    return torch.nn.functional.pad(mask, (0, 0, 0, 1)) * spectrum
