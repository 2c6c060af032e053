"""Configuration of models: the signal, the window of the separator, and the sizes of the network."""

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ModelError

Normalization = Literal["song_peak", "window_level"]


def check_ranges(config: object, **limits: tuple[float, float]) -> None:
    """Checks that fields are within (lowest, highest). In a tuple, all values are checked.

    Raises:
        ModelError: a value is out of range.
    """
    for name, (lowest, highest) in limits.items():
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not lowest <= number <= highest:
                raise ModelError(f"{name} must be between {lowest} and {highest}, got {str(value)[:80]}")


def check_levels(widths: tuple[int, ...], features: int) -> None:
    """Checks that a U-Net has levels, and that frequency can be halved at each of them.

    Raises:
        ModelError: there are no levels, or too many.
    """
    if not widths or features % (1 << (len(widths) - 1)):
        raise ModelError(f"{features} positions along frequency cannot be halved for each of {len(widths)} levels")


@dataclass(frozen=True)
class SignalConfig:
    """The audio and the spectrogram that a model reads.

    Attributes:
        n_fft: length of the analysis window in samples (periodic Hann, centred).
        hop_length: samples between frames.
        sample_rate: Hz.
        channels: audio channels.
        normalization: what magnitudes are divided by. ``"song_peak"``: the largest magnitude of the song, as in the
            original research code. ``"window_level"``: the :func:`window_level` of the frames in one pass of the
            network, so that the song is read only once and a single glitch does not matter.
        mid_side: the network's input also contains the magnitudes of mid and side, half the sum and half the difference
            of left and right. They tell what is in the centre, where most lead vocals are; the magnitudes of left and
            right alone do not tell it from equally loud sound on both sides.

    Raises:
        ModelError: a value is out of range.
    """

    n_fft: int = 2048
    hop_length: int = 1024
    sample_rate: int = 44_100
    channels: int = 2
    normalization: Normalization = "song_peak"
    mid_side: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, n_fft=(16, 1 << 16), sample_rate=(1000, 768_000), channels=(1, 8))
        check_ranges(self, hop_length=(1, self.n_fft))
        if self.n_fft % 2 or self.normalization not in get_args(Normalization):
            raise ModelError(f"n_fft must be even and normalization one of {get_args(Normalization)}, got {self}")
        if self.mid_side and self.channels != 2:
            raise ModelError(f"mid_side is for two channels, got {self.channels}")

    @property
    def inputs(self) -> int:
        """Channels of the network's input."""
        return 2 * self.channels if self.mid_side else self.channels

    @property
    def features(self) -> int:
        """Frequency bins of the network's input, without the Nyquist bin."""
        return self.n_fft // 2


@dataclass(frozen=True)
class WindowConfig:
    """The default window of the separator.

    Attributes:
        frames: frames that are kept of one pass of the network.
        context: additional frames of the song on each side of them.
        pad_last: fill the last window with zeros to the length of the others, as the research code does. Otherwise it
            ends with the song and its context.

    Raises:
        ModelError: a value is out of range.
    """

    frames: int = 1024
    context: int = 512
    pad_last: bool = True

    def __post_init__(self) -> None:
        check_ranges(self, frames=(1, 1 << 16), context=(0, 1 << 16))


@dataclass(frozen=True)
class MaskModelConfig:
    """Base class of the configurations of model families, which add the sizes of their networks.

    Attributes:
        signal: what the model reads.
        window: default window of the separator.
        dropout: probability of dropping an element of a residual branch during training.
    """

    signal: SignalConfig = SignalConfig()
    window: WindowConfig = WindowConfig()
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_ranges(self, dropout=(0, 1))
