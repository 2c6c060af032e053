"""Muon for the kernels of convolutions, with AdamW for all other weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer


class Muon(Optimizer):
    """Momentum with orthogonalised updates (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

    Unlike torch.optim.Muon, which takes only matrices, it flattens the kernels of a convolution to rows. A weight decay
    near 1 keeps singular values near 1. Without it the squared ReLUs make the logits grow until they saturate.
    """

    def __init__(self, params: Iterable, lr: float = 0.01, momentum: float = 0.95, weight_decay: float = 1.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(state["momentum_buffer"], group["momentum"])
                update = orthogonal(update.flatten(1)).view_as(parameter)
                rows, columns = parameter.flatten(1).shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonal(x: Tensor, steps: int = 5) -> Tensor:
    """Moves the singular values of a matrix near 1 by the quintic Newton-Schulz iteration of Muon.

    Each step multiplies ``x`` by a polynomial of its Gram matrix. So the iteration runs on that small matrix, and ``x``
    is multiplied once by the product of all polynomials.
    """
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    gram = x @ x.T
    product = identity = torch.eye(len(gram), dtype=x.dtype, device=x.device)
    for _ in range(steps):
        factor = 3.4445 * identity - 4.775 * gram + 2.0315 * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


def split_kernels(network: nn.Module) -> list[dict[str, Any]]:
    """Splits the trainable weights into two groups for an optimizer: kernels of hidden convolutions, and the rest.

    The layer ``out`` is not hidden, and depthwise kernels are not matrices; both belong to the rest.
    """
    groups: list[dict[str, Any]] = [{"params": [], "kernels": True}, {"params": [], "kernels": False}]
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            kernel = parameter.ndim == 4 and parameter.shape[1] > 1 and not name.startswith("out.")
            groups[0 if kernel else 1]["params"].append(parameter)
    return groups


class MuonWithAdamW(Optimizer):
    """`Muon` for the kernels and AdamW for the rest, with the groups of `split_kernels`."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 1.0,
        adamw_lr: float = 1e-3,
        adamw_betas: tuple[float, float] = (0.9, 0.98),
        adamw_weight_decay: float = 0.0,
    ):
        """
        Args:
            params: groups with the key "kernels".
            lr, momentum, weight_decay: arguments of Muon.
            adamw_lr, adamw_betas, adamw_weight_decay: arguments of AdamW.
        """
        groups = list(params)
        self._muon = Muon(_chosen(groups, True), lr, momentum, weight_decay)
        self._adamw = AdamW(_chosen(groups, False), adamw_lr, adamw_betas, weight_decay=adamw_weight_decay)
        super().__init__([*self._muon.param_groups, *self._adamw.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        for part, kernels in ((self._muon, True), (self._adamw, False)):
            # Loading a state replaces the groups and states of this optimizer.
            part.param_groups, part.state = _chosen(self.param_groups, kernels), self.state
            part.step()
        return loss


def _chosen(groups: list[dict[str, Any]], kernels: bool) -> list[dict[str, Any]]:
    return [group for group in groups if group["kernels"] is kernels]
