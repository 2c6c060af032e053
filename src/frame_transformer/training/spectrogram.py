"""Batched spectrograms of training crops, in the conventions of the separator."""

import torch
from torch import Tensor, nn

from ..models import SignalConfig, window_level

# A silent crop is divided by this instead of by its maximum.
SILENCE = 1e-6


class Spectrogram(nn.Module):
    """The short-time Fourier transform that a model reads (periodic Hann window, centred, reflect padding).

    The Nyquist bin is left out: networks do not see it, and the separator assigns it to the vocals.
    """

    window: Tensor

    def __init__(self, signal: SignalConfig):
        super().__init__()
        self.n_fft, self.hop_length, self.normalization = signal.n_fft, signal.hop_length, signal.normalization
        self.register_buffer("window", torch.hann_window(signal.n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (batch, channels, samples) → complex64 (batch, channels, n_fft / 2, 1 + samples // hop_length)."""
        spectrum = torch.stft(x.flatten(0, 1), self.n_fft, self.hop_length, window=self.window, return_complex=True)
        return spectrum[:, :-1].unflatten(0, x.shape[:2])

    def inverse(self, spectrum: Tensor, samples: int) -> Tensor:
        """(batch, channels, n_fft / 2, time) → (batch, channels, samples)."""
        whole = nn.functional.pad(spectrum.flatten(0, 1), (0, 0, 0, 1))
        x = torch.istft(whole, self.n_fft, self.hop_length, window=self.window, length=samples)
        return x.unflatten(0, spectrum.shape[:2])

    def scale(self, magnitudes: Tensor) -> Tensor:
        """What the magnitudes of each crop are divided by: (batch, channels, n_fft / 2, time) → (batch, 1, 1, 1).

        This is ``SignalConfig.normalization``, with the crop in place of the song or window.
        """
        if self.normalization == "window_level":
            return window_level(magnitudes)
        return magnitudes.amax(dim=(1, 2, 3), keepdim=True).clamp_min(SILENCE)

    def random_gain(self, limits: tuple[float, float], scale: Tensor) -> Tensor:
        """Factors of the normalised magnitudes in training, of the shape of ``scale``.

        Uniform for ``"song_peak"``, because a crop rarely contains the largest magnitude of its song; log-uniform for
        ``"window_level"``.
        """
        low, high = limits
        share = torch.rand_like(scale)
        return low * (high / low) ** share if self.normalization == "window_level" else low + (high - low) * share
