"""What every model's configuration shares: the spectrogram it reads."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class SpectrogramConfig:
    """Signal conventions of a model.

    Attributes:
        n_fft: samples in an analysis window (periodic Hann, centred).
        hop_length: samples from one frame to the next.
        sample_rate: Hz.
        in_channels: audio channels.
        normalization: what magnitudes are divided by before the network reads them. ``"song_peak"``: the largest of the
            song, as the original research code does. ``"window_level"``: the :func:`window_level` of what the network
            sees at once, so that one pass over the song is enough and one glitch does not rule it.
        window: frames kept of one pass of the network over a long song.
        context: further real frames the network sees on each side of them.
        dropout: probability of dropping an element of a residual branch during training.
    """

    n_fft: int = 2048
    hop_length: int = 1024
    sample_rate: int = 44_100
    in_channels: int = 2
    normalization: Literal["song_peak", "window_level"] = "song_peak"
    window: int = 1024
    context: int = 512
    dropout: float = 0.1

    @property
    def features(self) -> int:
        """Frequency bins the network sees: the Nyquist bin is left out."""
        return self.n_fft // 2


def window_level(magnitudes: Tensor) -> Tensor:
    """The square of the mean square root of magnitudes: a level that neither a glitch nor long silence decides.

    Args:
        magnitudes: (batch, channels, frequency, time), of a signal whose full scale is 1.

    Returns:
        (batch, 1, 1, 1), at least 1e-5, far below the noise of 16-bit audio.
    """
    return magnitudes.sqrt().mean(dim=(1, 2, 3), keepdim=True).square().clamp_min(1e-5)
