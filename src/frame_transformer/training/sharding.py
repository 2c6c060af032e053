"""Fully sharded data parallelism, for networks whose optimizer state is too large for one device."""

from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from ..models import MaskModel


class FullyShardedStrategy(ModelParallelStrategy):
    """``--trainer.strategy fsdp2``: weights, gradients and optimizer state split over all processes (PyTorch FSDP2).

    Lightning's ``fsdp`` flattens weights, which does not allow an EMA of them. Checkpoints are single files.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(model: MaskModel, mesh: DeviceMesh) -> None:
    """Splits the weights of every block of the network, then the rest, over the mesh."""
    for block in model.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def register() -> None:
    """Makes the strategy known to the Trainer by name."""
    if "fsdp2" not in StrategyRegistry:
        StrategyRegistry.register("fsdp2", FullyShardedStrategy, description="Fully sharded data parallelism")
