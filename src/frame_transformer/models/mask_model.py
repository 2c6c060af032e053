"""The contract of all networks that make masks."""

from torch import Tensor, nn

from .config import MaskModelConfig


class MaskModel(nn.Module):
    """Base of the families: magnitudes of a mixture in, logits of the mask of its instrumental out.

    Attributes:
        config: what the model was built from.
    """

    config: MaskModelConfig

    def __init__(self, config: MaskModelConfig):
        super().__init__()
        self.config = config

    def forward(self, magnitudes: Tensor) -> Tensor:
        """The logits of the mask; their sigmoid is the share of the instrumental in every bin.

        Args:
            magnitudes: (batch, channels, n_fft / 2, time) without the Nyquist bin, normalised as
                ``config.signal.normalization`` says; any time.

        Returns:
            (batch, channels, n_fft / 2, time).

        Raises:
            ValueError: the shape is another one.
        """
        raise NotImplementedError

    def check_shape(self, magnitudes: Tensor) -> None:
        """Raises ValueError where magnitudes are not (batch, channels, n_fft / 2, time)."""
        channels, features = self.config.signal.channels, self.config.signal.features
        if magnitudes.ndim != 4 or magnitudes.shape[1:3] != (channels, features):
            raise ValueError(f"expected (batch, {channels}, {features}, time), got {tuple(magnitudes.shape)}")
