"""The interface of all networks that estimate masks, and the level that their input is normalised by."""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from torch import Tensor, nn

from .config import MaskModelConfig

Block = TypeVar("Block", bound=nn.Module)


class Blocks(nn.ModuleList, Generic[Block]):
    """A :class:`torch.nn.ModuleList` of modules of one type, which type checkers know."""

    def __iter__(self) -> Iterator[Block]:
        return cast(Iterator[Block], super().__iter__())


class MaskModel(nn.Module):
    """Base class of the model families: maps magnitudes of a mixture to logits of the instrumental mask.

    Attributes:
        config: the configuration of the model.
    """

    config: MaskModelConfig

    def __init__(self, config: MaskModelConfig):
        super().__init__()
        self.config = config

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Computes the logits of the mask. Their sigmoid is the share of the instrumental in each bin.

        Args:
            magnitudes: (batch, channels, n_fft / 2, time) without the Nyquist bin, normalised as
                ``config.signal.normalization`` says; any time.

        Returns:
            (batch, channels, n_fft / 2, time).

        Raises:
            ValueError: magnitudes have another shape.
        """
        raise NotImplementedError

    def check_shape(self, magnitudes: Tensor) -> None:
        """Raises ValueError if the shape is not (batch, channels, n_fft / 2, time)."""
        channels, features = self.config.signal.channels, self.config.signal.features
        if magnitudes.ndim != 4 or magnitudes.shape[1:3] != (channels, features):
            raise ValueError(f"expected (batch, {channels}, {features}, time), got {tuple(magnitudes.shape)}")

    def blocks(self) -> Iterator[nn.Module]:
        """Yields the blocks of the network, which training recomputes or shards one by one.

        A level is a container of blocks and is not called itself.
        """
        containers = [child for child in self.children() if _is_container(child)]
        while containers:
            for child in containers.pop(0).children():
                if _is_container(child):
                    containers.append(child)
                else:
                    yield child


def window_level(magnitudes: Tensor) -> Tensor:
    """The square of the mean square root of magnitudes, a level that is robust to glitches and silence.

    Args:
        magnitudes: (batch, channels, frequency, time), of a signal with full scale 1.

    Returns:
        (batch, 1, 1, 1), at least 1e-5, far below the noise of 16-bit audio.
    """
    return magnitudes.sqrt().mean(dim=(1, 2, 3), keepdim=True).square().clamp_min(1e-5)


def _is_container(module: nn.Module) -> bool:
    return type(module).forward is nn.Module.forward
