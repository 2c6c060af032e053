"""Muon, alone and beside AdamW."""

import copy

import pytest
import torch
from torch import nn

from frame_transformer.training.muon import Muon, MuonWithAdamW, orthogonal, split_kernels


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.depthwise = nn.Conv2d(4, 4, 3, groups=4)
        self.frozen = nn.Conv2d(4, 4, 1, bias=False).requires_grad_(False)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.out(self.frozen(self.depthwise(self.conv(x).relu())))


@pytest.fixture
def networks():
    torch.manual_seed(0)
    network = Network()
    return network, copy.deepcopy(network)


def step(network, seed, *optimizers):
    torch.manual_seed(seed)
    network.zero_grad()
    network(torch.randn(2, 3, 8, 8)).square().mean().backward()
    for optimizer in optimizers:
        optimizer.step()


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (16, 16)])
def test_orthogonal(shape):
    """The vectors stay, the singular values go near 1."""
    torch.manual_seed(0)
    x = 100 * torch.randn(shape)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    rotated = left.T @ orthogonal(x) @ right.T
    torch.testing.assert_close(rotated, torch.diag(rotated.diag()), atol=1e-4, rtol=0)
    large = values > 0.1 * values.max()
    assert large.sum() >= 7
    assert rotated.diag()[large].min() > 0.6
    assert rotated.diag().max() < 1.3


@pytest.mark.parametrize(("out_channels", "scale"), [(2, 1.0), (32, 2.0)])
def test_muon_adds_orthogonal_updates_of_nesterov_momentum(out_channels, scale):
    """They are larger for kernels that have more output channels than inputs: here 2 channels of 2×2."""
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(out_channels, 2, 2, 2))
    optimizer = Muon([kernel], lr=0.1, momentum=0.8, weight_decay=0.5)
    expected, average = kernel.detach().clone(), torch.zeros_like(kernel)
    for _ in range(3):
        kernel.grad = torch.randn_like(kernel)
        average = 0.8 * average + 0.2 * kernel.grad
        update = orthogonal((0.2 * kernel.grad + 0.8 * average).flatten(1)).view_as(kernel)
        expected = 0.95 * expected - 0.1 * scale * update
        optimizer.step()
    torch.testing.assert_close(kernel.detach(), expected)


def test_every_weight_is_in_one_group(networks):
    network, _ = networks
    kernels, others = split_kernels(network)
    assert [id(parameter) for parameter in kernels["params"]] == [id(network.conv.weight)]
    expected = [network.conv.bias, *network.depthwise.parameters(), *network.out.parameters()]
    assert [id(parameter) for parameter in others["params"]] == [id(parameter) for parameter in expected]


def test_together_they_step_as_alone_also_from_a_saved_state(networks):
    one, two = networks
    together = MuonWithAdamW(split_kernels(one), lr=0.02, adamw_lr=0.003, adamw_weight_decay=0.1)
    kernels, others = (group["params"] for group in split_kernels(two))
    alone = Muon(kernels, lr=0.02), torch.optim.AdamW(others, lr=0.003, betas=(0.9, 0.98), weight_decay=0.1)
    for seed in range(4):
        step(one, seed, together)
        step(two, seed, *alone)
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        state = copy.deepcopy(together.state_dict())
        together = MuonWithAdamW(split_kernels(one), lr=1, adamw_lr=1)
        together.load_state_dict(state)


def test_schedules_reach_both(networks):
    network, before = networks
    optimizer = MuonWithAdamW(split_kernels(network))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    step(network, 0, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))
