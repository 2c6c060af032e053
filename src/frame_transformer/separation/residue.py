"""Clearing faint residue of the instruments out of the vocals where nobody sings."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, max_pool1d, pad


def quiet_stretches(quiet: Tensor, shortest: int, fade: int) -> Tensor:
    """How deep frames lie in stretches of at least ``shortest`` quiet ones: 0 outside, 1 within, ramps between.

    A stretch is what a morphological opening leaves of the flags; the ramps are ``2 * fade + 1`` frames long and lie
    inside it.

    Args:
        quiet: 0 or 1 for every frame, float32 (pairs, frames).

    Returns:
        float32 (pairs, frames - 2 * reach) with reach = shortest - 1 + 2 * fade: the frames whose neighbours are known.
    """
    x = quiet[:, None]
    opened = max_pool1d(-max_pool1d(-x, shortest, 1), shortest, 1)
    return avg_pool1d(-max_pool1d(-opened, 2 * fade + 1, 1), 2 * fade + 1, 1)[:, 0]


def clear_residue(
    pieces: Iterator[tuple[Tensor, Tensor]], share: float, shortest: int, fade: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Spectra and vocal masks in order, the masks set to 0 over stretches that are all but instrumental.

    A frame counts as instrumental where the mask leaves no more than ``share`` of the magnitude of its two channels to
    the vocals. A stretch has at least ``shortest`` such frames; what lies beyond the song's ends counts as one. However
    the song is cut into pieces, the result is the same.

    Args:
        pieces: spectrum and vocal mask, both (pairs · 2, bins, frames).
    """
    reach = shortest - 1 + 2 * fade
    spectra: list[Tensor] = []
    masks: list[Tensor] = []
    quiet: Tensor | None = None
    for spectrum, mask in pieces:
        magnitudes = spectrum.abs().unflatten(0, (-1, 2))
        vocals = (mask.unflatten(0, (-1, 2)) * magnitudes).sum(dim=(1, 2))
        flags = (vocals <= share * magnitudes.sum(dim=(1, 2))).float()
        quiet = pad(flags, (reach, 0), value=1.0) if quiet is None else torch.cat((quiet, flags), dim=1)
        spectra.append(spectrum)
        masks.append(mask)
        if (ready := quiet.shape[1] - 2 * reach) > 0:
            whole, kept = torch.cat(spectra, dim=2), torch.cat(masks, dim=2)
            yield whole[..., :ready], _faded(kept[..., :ready], quiet, shortest, fade)
            spectra, masks, quiet = [whole[..., ready:]], [kept[..., ready:]], quiet[:, ready:]
    if quiet is not None:
        quiet = pad(quiet, (0, reach), value=1.0)
        yield torch.cat(spectra, dim=2), _faded(torch.cat(masks, dim=2), quiet, shortest, fade)


def _faded(mask: Tensor, quiet: Tensor, shortest: int, fade: int) -> Tensor:
    depth = quiet_stretches(quiet, shortest, fade).repeat_interleave(2, dim=0)
    return mask * (1 - depth[:, None])
