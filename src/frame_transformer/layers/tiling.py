"""Computation of :class:`ResidualScores`: in tiles that fit the cache, or as a stored sum if that is cheaper."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .chunks import is_symbolic

Product = tuple[Tensor, Tensor]

# A tile of scores of this many elements (2 MiB of float32) stays in the cache while it is used. At 2048 frames this
# takes 0.7 of the time of tiles of 64 MiB. Fused scaled_dot_product_attention needs values as wide as the concatenated
# keys, and takes 1.8 to 3.3 times as long if the scores of several layers are added.
TILE_ELEMENTS = 1 << 19
# On an accelerator every tile costs a kernel launch, and the size of the CPU cache does not matter.
ACCELERATOR_TILE_ELEMENTS = 1 << 26
# Above this width of the concatenation the sum itself is stored, because recomputing it would cost more than its memory
# is worth. If that memory is small (32 MiB of float32) or the sum is updated in place, one wide layer is enough.
SUM_WIDTH = 640
CHEAP_SUM_WIDTH = 128
CHEAP_SUM_ELEMENTS = 1 << 23


def should_sum(products: Sequence[Product], in_place: bool) -> bool:
    """Whether storing the sum of products as one tensor is cheaper from here on."""
    queries, _ = products[-1]
    # The backward pass would keep the sum of every layer. With a symbolic number of frames, sizes are unknown.
    if torch.is_grad_enabled() or is_symbolic(queries):
        return False
    *heads, _, frames = queries.shape
    cheap = in_place or math.prod(heads) * frames * frames <= CHEAP_SUM_ELEMENTS
    return sum(q.shape[-2] for q, _ in products) > (CHEAP_SUM_WIDTH if cheap else SUM_WIDTH)


def sum_products(products: Sequence[Product], base: Tensor | None, in_place: bool = False) -> Tensor:
    """base + Σ qᵀk: (batch, maps, heads, query time, key time); ``in_place`` overwrites ``base``.

    Args:
        products: queries and keys, both (batch, maps, heads, width, time).
        base: (batch, maps, heads, query time, key time), or None where there are products.
    """
    if not products:
        assert base is not None
        return base
    queries, keys = _concatenated(products, slice(None))
    if base is None:
        scores = torch.bmm(queries.mT, keys)
    else:
        flat = base.flatten(0, 2)
        scores = (flat.baddbmm_ if in_place else flat.baddbmm)(queries.mT, keys)
    return scores.unflatten(0, products[0][0].shape[:3])


def attend(products: Sequence[Product], base: Tensor | None, values: Tensor) -> Tensor:
    """softmax(base + Σ qᵀk) · values, a tile of scores at a time.

    Args:
        products, base: as in :func:`sum_products`.
        values: (batch, maps, heads, features, key time).

    Returns:
        (batch, maps, heads, features, query time).
    """
    key_frames = values.shape[-1]
    query_frames = products[0][0].shape[-1] if base is None else base.shape[-2]
    flat_base, flat_values = None if base is None else base.flatten(0, 2), values.flatten(0, 2)
    heads = len(flat_values)  # over all maps and examples
    elements = TILE_ELEMENTS if values.device.type == "cpu" else ACCELERATOR_TILE_ELEMENTS
    together = min(heads, max(1, elements // (query_frames * key_frames)))
    rows = min(query_frames, max(1, elements // (together * key_frames)))
    out = []
    for start in range(0, heads, together):
        some = slice(start, start + together)
        product = _concatenated(products, some) if products else None
        columns = []
        for first in range(0, query_frames, rows):
            seen = slice(first, first + rows)
            tile = None if flat_base is None else flat_base[some, seen]
            if product is not None:
                queries, keys = product[0][..., seen].mT, product[1]
                tile = torch.bmm(queries, keys) if tile is None else torch.baddbmm(tile, queries, keys)
            assert tile is not None
            columns.append(torch.bmm(flat_values[some], tile.softmax(dim=-1).mT))
        out.append(columns[0] if len(columns) == 1 else torch.cat(columns, dim=2))
    return torch.cat(out).unflatten(0, values.shape[:3])


def _concatenated(products: Sequence[Product], heads: slice) -> Product:
    """Queries and keys (heads, width, time) of some of the batch · maps · heads."""
    queries, keys = zip(*((q.flatten(0, 2)[heads], k.flatten(0, 2)[heads]) for q, k in products), strict=True)
    return (queries[0], keys[0]) if len(queries) == 1 else (torch.cat(queries, dim=1), torch.cat(keys, dim=1))
