"""What every model's configuration shares: the spectrogram it reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SpectrogramConfig:
    """Signal conventions of a model.

    Attributes:
        n_fft: samples in an analysis window (periodic Hann, centred).
        hop_length: samples from one frame to the next.
        sample_rate: Hz.
        in_channels: audio channels.
        window: frames kept of one pass of the network over a long song.
        context: further real frames the network sees on each side of them.
        dropout: probability of dropping an element of a residual branch during training.
    """

    n_fft: int = 2048
    hop_length: int = 1024
    sample_rate: int = 44_100
    in_channels: int = 2
    window: int = 1024
    context: int = 512
    dropout: float = 0.1

    @property
    def features(self) -> int:
        """Frequency bins the network sees: the Nyquist bin is left out."""
        return self.n_fft // 2
