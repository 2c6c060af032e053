"""The separator: loads the models once and separates songs."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..checkpoints import OnnxModel, load_model
from ..errors import OptionError
from ..models import MaskModel
from .device import check_process, keep_freed_memory, resolve_device, resolve_dtype
from .ensembles import ModelEnsemble
from .options import Model, SeparationOptions
from .stream import AudioSource, Progress, StemStream
from .windows import WindowedModel

logger = logging.getLogger(__name__)

Download = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Separation:
    """A separated song: float32 (channels, samples) at ``sample_rate`` Hz, as many of both as the input has."""

    vocals: np.ndarray
    instrumental: np.ndarray
    sample_rate: int
    warnings: tuple[str, ...] = ()


class Separator:
    """Separates songs into vocals and instrumental.

    >>> separator = Separator("default", device="cpu", overlap=0.25)

    Args:
        model: a name, a path, a loaded model, or several of them, which then form an ensemble; or all options at once.
        download: called with (model, bytes done, total bytes) during the download of a model.
        options: the other fields of :class:`SeparationOptions`.

    Attributes:
        options: the :class:`SeparationOptions` it was made with.
        model: the loaded models, as one :class:`ModelEnsemble`.
        parts: the model with its windows; for an ensemble, one model for each spectrogram.
            ``weights`` are theirs in a mean.

    Raises:
        OptionError: options out of range, or a process in which PyTorch would hang. ModelError: unknown model.
    """

    def __init__(
        self,
        model: Model | Sequence[Model] | SeparationOptions = "default",
        *,
        download: Download | None = None,
        **options: Any,
    ):
        if not isinstance(model, SeparationOptions):
            options["models"] = model
        self.options = model if isinstance(model, SeparationOptions) else SeparationOptions(**options)
        check_process()
        device = resolve_device(self.options.device)
        dtype = resolve_dtype(self.options.dtype, device)
        models = [_load(model, download) for model in self.options.models]
        if any(isinstance(module, OnnxModel) for model in models for module in model.modules()):
            if self.options.device not in ("auto", "cpu") or dtype != torch.float32:
                raise OptionError("an ONNX model runs on the CPU in float32: use device cpu and dtype float32")
            device = torch.device("cpu")
        if device.type == "cpu":
            keep_freed_memory()
        if len(models) == 1 and isinstance(models[0], ModelEnsemble):
            self.model = models[0]
        else:
            self.model = ModelEnsemble(models, self.options.ensemble, self.options.weights)
        members = self.model.parts()
        self.parts = [WindowedModel(part, self.options, device, dtype) for part, _ in members]
        self.weights = [weight for _, weight in members]
        for part in self.parts:
            logger.info(
                "%s on %s in %s, windows of %d + %d + %d frames",
                *(self.options.model_name, device, dtype, part.context, part.window, part.context),
            )

    def separate(
        self, source: AudioSource, sample_rate: int | None = None, progress: Progress | None = None
    ) -> Separation:
        """Separates a whole song in memory.

        Args:
            source: path, binary file object that can seek, or array or tensor (channels, samples) of floats or of
                integers, whose full scale becomes 1.
            sample_rate: Hz, of an array or tensor; the model's own rate when None.
            progress: called with (samples done, total samples) while the song is read and separated. An exception from
                it stops the separation. Until the song has been read to its end, the total is that of its header, or
                the number of samples read.

        Raises:
            AudioError: the source cannot be read or holds NaN or infinite samples. ModelError: the network yields NaN.
            OptionError: there is not enough memory for the window.
        """
        stream = StemStream(self, source, sample_rate, progress)
        vocals, instrumental = zip(*((block.vocals, block.instrumental) for block in stream), strict=True)
        return Separation(
            np.concatenate(vocals, axis=1),
            np.concatenate(instrumental, axis=1),
            stream.sample_rate,
            tuple(stream.warnings),
        )

    def stream(
        self, source: AudioSource, sample_rate: int | None = None, progress: Progress | None = None
    ) -> StemStream:
        """Like :meth:`separate`, but returns an iterator of :class:`StemBlock` that needs only bounded memory."""
        return StemStream(self, source, sample_rate, progress)


def _load(model: Model, download: Download | None) -> MaskModel:
    if isinstance(model, nn.Module):
        return model
    return load_model(model, None if download is None else functools.partial(download, str(model)))


def separate(source: AudioSource, sample_rate: int | None = None, **options: Any) -> Separation:
    """Separates one song with the ``options`` of :class:`Separator`. For several songs, reuse a separator."""
    return Separator(**options).separate(source, sample_rate)
