"""Branches in chunks of the frames give what they give over all of them."""

import pytest
import torch
from torch import nn

from frame_transformer.layers import ConvolutionalFeedForward, LinearFeedForward, MultichannelLayerNorm, chunks


@torch.no_grad()
@pytest.mark.parametrize("elements", [1, 3 * 8 * 5, 1 << 24])
@pytest.mark.parametrize(
    "branch", [LinearFeedForward(3, 8, 12), ConvolutionalFeedForward(3, 2), MultichannelLayerNorm(3, 8)]
)
def test_chunks_agree_with_the_whole(monkeypatch, branch, elements):
    torch.manual_seed(0)
    for parameter in branch.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(1, 3, 8, 13)
    with torch.enable_grad():
        whole = branch(x).detach()
    monkeypatch.setattr(chunks, "CHUNK_ELEMENTS", elements)
    torch.testing.assert_close(branch(x), whole, rtol=1e-4, atol=1e-5)
