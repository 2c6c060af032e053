"""The interface of all networks that estimate masks, and their input."""

from collections.abc import Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from .config import MaskModelConfig, SignalConfig

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
            magnitudes: (batch, inputs, n_fft / 2, time) without the Nyquist bin, see :func:`input_magnitudes`,
                normalised as ``config.signal.normalization`` says; any time.

        Returns:
            (batch, channels, n_fft / 2, time).

        Raises:
            ValueError: magnitudes have another shape.
        """
        raise NotImplementedError

    def check_shape(self, magnitudes: Tensor) -> None:
        """Raises ValueError if the shape is not (batch, inputs, n_fft / 2, time)."""
        inputs, features = self.config.signal.inputs, self.config.signal.features
        if magnitudes.ndim != 4 or magnitudes.shape[1:3] != (inputs, features):
            raise ValueError(f"expected (batch, {inputs}, {features}, time), got {tuple(magnitudes.shape)}")

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


def input_magnitudes(spectrum: Tensor, signal: SignalConfig) -> Tensor:
    """The network's input before normalisation: the magnitudes of the channels, then those of mid and side, if wanted.

    Args:
        spectrum: complex (batch, channels, frequency, time).

    Returns:
        (batch, inputs, frequency, time).
    """
    if signal.mid_side:
        left, right = spectrum.unbind(dim=1)
        spectrum = torch.stack((left, right, (left + right) / 2, (left - right) / 2), dim=1)
    return spectrum.abs()


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
