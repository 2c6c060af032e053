"""Removes faint residue of instruments from the vocals where nobody sings."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad


def quiet_spans(quiet: Tensor, shortest: int, fade: int) -> Tensor:
    """An envelope of spans of at least ``shortest`` quiet frames: 1 inside, 0 outside, with ramps at their ends.

    Spans are found by morphological opening of the flags. The ramps are ``2 * fade + 1`` frames long, inside the spans.

    Args:
        quiet: 0 or 1 for every frame, float32 (pairs, frames).

    Returns:
        float32 (pairs, frames - 2 * margin), margin = shortest - 1 + 2 * fade: the frames whose neighbours are known.
    """
    x = quiet[:, None]
    opened = max_pool1d(-max_pool1d(-x, shortest, 1), shortest, 1)
    return avg_pool1d(-max_pool1d(-opened, 2 * fade + 1, 1), 2 * fade + 1, 1)[:, 0]


def clear_residue(
    blocks: Iterator[tuple[Tensor, Tensor]], share: float, shortest: int, fade: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields spectra and vocal masks in order, with masks set to 0 over spans that are almost purely instrumental.

    A frame counts as instrumental if the mask assigns at most ``share`` of the magnitude of its two channels to the
    vocals. A span has at least ``shortest`` such frames; frames before the start and after the end of the song count,
    too. The result does not depend on how the song is divided into blocks.

    Args:
        blocks: spectrum and vocal mask, both (pairs · 2, bins, frames).
    """
    margin = shortest - 1 + 2 * fade
    spectra: list[Tensor] = []
    masks: list[Tensor] = []
    quiet: Tensor | None = None
    for spectrum, mask in blocks:
        magnitudes = spectrum.abs().unflatten(0, (-1, 2))
        vocals = (mask.unflatten(0, (-1, 2)) * magnitudes).sum(dim=(1, 2))
        flags = (vocals <= share * magnitudes.sum(dim=(1, 2))).float()
        quiet = pad(flags, (margin, 0), value=1.0) if quiet is None else torch.cat((quiet, flags), dim=1)
        spectra.append(spectrum)
        masks.append(mask)
        if (ready := quiet.shape[1] - 2 * margin) > 0:
            whole, kept = torch.cat(spectra, dim=2), torch.cat(masks, dim=2)
            yield whole[..., :ready], _faded(kept[..., :ready], quiet, shortest, fade)
            spectra, masks, quiet = [whole[..., ready:]], [kept[..., ready:]], quiet[:, ready:]
    if quiet is not None:
        quiet = pad(quiet, (0, margin), value=1.0)
        yield torch.cat(spectra, dim=2), _faded(torch.cat(masks, dim=2), quiet, shortest, fade)


def _faded(mask: Tensor, quiet: Tensor, shortest: int, fade: int) -> Tensor:
    depth = quiet_spans(quiet, shortest, fade).repeat_interleave(2, dim=0)
    return mask * (1 - depth[:, None])
