"""Several models on one song: how their masks become one."""

import torch
from torch import Tensor

from .options import Ensemble


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
