"""The contract of all networks that make masks."""

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

    def blocks(self) -> Iterator[nn.Module]:
        """The modules in lists of the network, for training to recompute or shard one by one.

        A level is no module to be called, but a container of some.
        """
        containers = [child for child in self.children() if _is_container(child)]
        while containers:
            for child in containers.pop(0).children():
                if _is_container(child):
                    containers.append(child)
                else:
                    yield child


def _is_container(module: nn.Module) -> bool:
    return type(module).forward is nn.Module.forward
