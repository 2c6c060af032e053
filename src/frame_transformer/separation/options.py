"""Options of a request: how songs are separated, and what is written."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..audio import find_codec
from ..errors import OptionError
from ..models import MaskModel
from .naming import check_template, fill_template

Model = str | os.PathLike[str] | MaskModel
Ensemble = Literal["mean", "median", "min", "max"]
Clip = Literal["rescale", "clamp", "none"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
STEMS = ("vocals", "instrumental")
PICTURES = ("mixture", "vocals", "instrumental", "mask")


def _choose(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OptionError(f"unknown {what} {value!r}: use {', '.join(choices)}")


@dataclass(frozen=True)
class SeparationOptions:
    """How songs are separated. :class:`Separator` checks what depends on the models or the machine.

    Attributes:
        models: names, paths or loaded models; several form an ensemble. A single one may be given without a tuple. An
            ONNX model runs on the CPU in float32.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
        dtype: precision of the network under autocast: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
            Masks and spectrograms are always float32.
        window, context: frames in a window and frames of context on each side of it; None for the model's own.
        overlap: fraction of a window that is blended with the next, 0 to 0.5; the original research code used 0.
        batch_size: windows (of two channels) in a batch.
        tta: test-time augmentation: the mask of each window is the mean of four passes with different sizes and
            positions of the context.
        smoothing: vocals below this fraction of the magnitude for longer than 1.5 s are removed as residue. 0 keeps
            everything; 0.05 is a cautious start.
        ensemble: how several models are combined, see :class:`ModelEnsemble`. weights: their weights in a mean.
        stream: number (from 0) of the audio stream of files with several; None for the default one.
        fill_gaps: insert silence at gaps in the time stamps, and before audio that starts after the video; False leaves
            such gaps out.

    Raises:
        OptionError: options out of range, or that do not fit together.
    """

    models: tuple[Model, ...] = ("default",)
    device: str = "auto"
    dtype: str = "float32"
    window: int | None = None
    context: int | None = None
    overlap: float = 0.0625
    batch_size: int = 1
    tta: bool = False
    smoothing: float = 0.0
    ensemble: Ensemble = "mean"
    weights: tuple[float, ...] | None = None
    stream: int | None = None
    fill_gaps: bool = True

    def __post_init__(self) -> None:
        single = isinstance(self.models, str | os.PathLike | nn.Module)
        self._set(models=(self.models,) if single else tuple(self.models))
        self._set(dtype=str(self.dtype).removeprefix("torch."), weights=self.weights and tuple(self.weights))
        if not self.models:
            raise OptionError("no model given")
        _choose("dtype", self.dtype, tuple(DTYPES))
        _choose("ensemble", self.ensemble, get_args(Ensemble))
        if (self.window is not None and self.window < 1) or (self.context is not None and self.context < 0):
            raise OptionError("window must be at least 1, context at least 0")
        if not 0 <= self.overlap <= 0.5 or not 0 <= self.smoothing < 1:
            raise OptionError("options out of range: overlap between 0 and 0.5, smoothing at least 0 and below 1")
        if self.batch_size < 1:
            raise OptionError("batch size must be at least 1")
        if self.stream is not None and self.stream < 0:
            raise OptionError("audio streams are numbered from 0")
        self._check_weights()

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if self.ensemble != "mean":
            raise OptionError(f"weights belong to the mean: the ensemble {self.ensemble} has none")
        if len(self.weights) != len(self.models):
            raise OptionError(f"{len(self.weights)} weights for {len(self.models)} models: each needs one number")
        if not all(map(math.isfinite, self.weights)) or min(self.weights) < 0 or sum(self.weights) == 0:
            raise OptionError("weights of an ensemble must be finite, not negative, and not all zero")

    @property
    def model_name(self) -> str:
        """The name of the models in the outputs: names or file names without suffix, joined by ``+``."""
        return "+".join(
            type(model).__name__ if isinstance(model, nn.Module) else Path(model).stem for model in self.models
        )


@dataclass(frozen=True)
class OutputOptions:
    """Where stems go and how they are written.

    Attributes:
        folder: root of the outputs. filename: template below it with {model}, {folder}, {track}, {stem}, {ext}; the
            folder is that of the song below the one it was found in.
        stems: which of vocals and instrumental. audio_format, bit_depth, bitrate: see :class:`AudioWriter`.
        clip: what happens to stems beyond full scale: ``"rescale"`` turns all stems of the song down together,
            ``"clamp"`` cuts the peaks, ``"none"`` leaves them to the format.
        overwrite: whether :func:`separate_files` separates again what was separated before.
        images: also write spectrograms of mixture, vocals, instrumental and mask, as ``.png``.
        video: also write the instrumental under the song's cover, as ``.mp4``.
    """

    folder: Path = Path("separated")
    filename: str = "{model}/{folder}/{track}/{stem}.{ext}"
    stems: tuple[str, ...] = STEMS
    audio_format: str = "wav"
    bit_depth: str | None = None
    bitrate: int | None = None
    clip: Clip = "rescale"
    overwrite: bool = False
    images: bool = False
    video: bool = False

    def __post_init__(self) -> None:
        if not self.stems or set(self.stems) - set(STEMS):
            raise OptionError(f"stems must be of {', '.join(STEMS)}, got {', '.join(self.stems) or 'none'}")
        find_codec(self.audio_format, self.bit_depth)
        _choose("clip mode", self.clip, get_args(Clip))
        if len(self.stems) > 1 and "{stem}" not in self.filename:
            raise OptionError("the file name template needs {stem}, or the stems would overwrite each other")
        if (self.images or self.video) and not ("{stem}" in self.filename and "{ext}" in self.filename):
            raise OptionError("with images or video the file name template needs {stem} and {ext}")
        check_template(self.filename)

    def outputs(self, model: str, track: str, folder: str = "") -> dict[str, str]:
        """All files of one song below the output folder: by stem, then ``mixture.png`` and so on, then ``video``."""

        def path(stem: str, ext: str) -> str:
            return fill_template(self.filename, model, folder, track, stem, ext)

        paths = {stem: path(stem, self.audio_format) for stem in self.stems}
        if self.images:
            paths |= {f"{name}.png": path(name, "png") for name in PICTURES}
        if self.video:
            paths["video"] = path("instrumental", "mp4")
        return paths
