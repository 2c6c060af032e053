"""Ensembles of models: combining their masks or their stems."""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..audio import StreamingISTFT, StreamingSTFT
from ..errors import OptionError
from ..models import MaskModel, SignalConfig
from .options import Ensemble

# The common spectrogram on which stems of different spectrograms are combined.
N_FFT, HOP_LENGTH = 4096, 1024


class ModelEnsemble(MaskModel):
    """Several models combined to one, which can be used like any other model.

    The masks of models that read the same spectrogram are joined, see :func:`join`: on one mixture, the mean, median,
    least or largest mask gives the mean, median, least or largest magnitude of the instrumental. Where they read
    different ones, the ensemble has no ``forward`` of its own: its :meth:`parts` run one by one, and
    :func:`join_stems` joins what they separate.

    Args:
        models: at least one. weights: of the models in a mean, equal where None.
        ensemble: ``"mean"``, ``"median"``, ``"min"`` or ``"max"``.

    Raises:
        OptionError: a model is itself an ensemble of different spectrograms.
    """

    weights: Tensor
    signals: tuple[SignalConfig, ...]

    def __init__(
        self, models: Sequence[MaskModel], ensemble: Ensemble = "mean", weights: Sequence[float] | None = None
    ):
        super().__init__(models[0].config)
        if any(isinstance(model, ModelEnsemble) and len(model.signals) > 1 for model in models):
            raise OptionError("an ensemble of different spectrograms cannot be part of another ensemble")
        self.models = nn.ModuleList(models)
        self.ensemble = ensemble
        self.signals = tuple(dict.fromkeys(model.config.signal for model in models))
        self.register_buffer("weights", torch.tensor(weights or [1.0] * len(models)), persistent=False)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """The logits of the joined mask, see :class:`MaskModel`.

        Raises:
            OptionError: the models read different spectrograms.
        """
        if len(self.signals) > 1:
            raise OptionError("the models of this ensemble read different spectrograms: run its parts one by one")
        masks = torch.stack([model(magnitudes).float().sigmoid() for model in self.models])
        return join(masks, masks, self.ensemble, self.weights).logit()

    def parts(self) -> list[tuple[MaskModel, float]]:
        """Models that a separator can run, each on a spectrogram of its own, with their weights in a mean.

        A median of all models is none of the medians of some: there every model is a part.
        """
        if len(self.signals) == 1:
            return [(self if len(self.models) > 1 else cast(MaskModel, self.models[0]), 1.0)]
        members = list(zip(cast(Iterable[MaskModel], self.models), self.weights.tolist(), strict=True))
        if self.ensemble == "median":
            return members
        parts: list[tuple[MaskModel, float]] = []
        for signal in self.signals:
            models, weights = zip(*(member for member in members if member[0].config.signal == signal), strict=True)
            if sum(weights):
                parts.append((ModelEnsemble(models, self.ensemble, weights), sum(weights)))
        return parts


def join(values: Tensor, magnitudes: Tensor, ensemble: Ensemble, weights: Tensor) -> Tensor:
    """One of several values by their magnitudes, both (models, ...) to (...).

    ``"min"`` leaves the least of the vocals in the instrumental, ``"max"`` the least of the instrumental in the vocals,
    where the values are those of the instrumental. The median of an even number is the mean of the two in the middle.
    ``weights`` (models,) are those of the mean.
    """
    if ensemble == "mean":
        return torch.einsum("m,m...->...", (weights / weights.sum()).to(values.dtype), values)
    if ensemble == "median":
        order = magnitudes.argsort(dim=0)
        middle = order[(len(order) - 1) // 2 : len(order) // 2 + 1]
        return values.gather(0, middle).mean(dim=0)
    index = magnitudes.argmin(dim=0) if ensemble == "min" else magnitudes.argmax(dim=0)
    return values.gather(0, index[None])[0]


def join_stems(
    blocks: Iterator[tuple[np.ndarray, list[np.ndarray]]], ensemble: Ensemble, weights: Sequence[float]
) -> Iterator[np.ndarray]:
    """The vocals of several separations as one.

    The mean is taken of the samples; the others take in every bin of a common spectrogram the instrumental whose
    magnitude is the median, the least or the largest, with its phase.

    Args:
        blocks: mixture and the vocals of every separation, float32 (channels, samples).

    Yields:
        float32 (channels, samples), as many in all as the mixture or up to a hop more, in other blocks.
    """
    share = torch.tensor(weights)
    if ensemble == "mean":
        for _, vocals in blocks:
            yield join(torch.from_numpy(np.stack(vocals)), share, ensemble, share).numpy()
        return
    # The vocals are the mixture less the instrumental, and the transforms are linear: no mixture need be kept back.
    transforms = [StreamingSTFT(N_FFT, HOP_LENGTH) for _ in range(len(weights) + 1)]
    inverse = StreamingISTFT(N_FFT, HOP_LENGTH)

    def joined(spectra: list[Tensor]) -> np.ndarray:
        mixture, *vocals = spectra
        instrumentals = mixture - torch.stack(vocals)
        return inverse.push(mixture - join(instrumentals, instrumentals.abs(), ensemble, share)).numpy()

    for mixture, vocals in blocks:
        signals = zip(transforms, [mixture, *vocals], strict=True)
        yield joined([stft.push(torch.from_numpy(signal)) for stft, signal in signals])
    yield joined([stft.finish() for stft in transforms])
    yield inverse.finish().numpy()
