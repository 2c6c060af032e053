"""Several models on one song: how their masks become one."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import OptionError

Ensemble = Literal["mean", "median", "min", "max"]


def check_ensemble(ensemble: str, weights: Sequence[float] | None, models: int) -> None:
    """Raises OptionError where the kind of ensemble does not exist or the weights do not fit it."""
    if ensemble not in get_args(Ensemble):
        raise OptionError(f"unknown ensemble {ensemble!r}: use {', '.join(get_args(Ensemble))}")
    if weights is None:
        return
    if ensemble != "mean":
        raise OptionError(f"weights belong to the mean: the ensemble {ensemble} has none")
    if len(weights) != models:
        raise OptionError(f"{len(weights)} weights for {models} models: one number for each is needed")
    if min(weights) < 0 or sum(weights) == 0:
        raise OptionError("weights of an ensemble must not be negative, nor all zero")


def join_masks(masks: Tensor, ensemble: Ensemble, weights: Tensor) -> Tensor:
    """One instrumental mask from those of several models, (models, ...) to (...).

    All masks lie on one mixture spectrogram, so that the mean, median, least or largest mask gives the mean, median,
    least or largest magnitude of the instrumental: ensembles of masks and of magnitudes are the same here. ``min``
    leaves the least of the vocals in the instrumental, ``max`` the least of the instrumental in the vocals. The median
    of an even number is the mean of the two in the middle. ``weights`` (models,) are those of the mean.
    """
    if ensemble == "mean":
        return torch.einsum("m,m...->...", weights / weights.sum(), masks)
    if ensemble == "median":
        ordered, models = masks.sort(dim=0).values, len(masks)
        return (ordered[(models - 1) // 2] + ordered[models // 2]) / 2
    return masks.amin(dim=0) if ensemble == "min" else masks.amax(dim=0)
