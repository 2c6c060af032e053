"""Loading models by name or path."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from .. import hub
from ..errors import ModelError
from ..models import MaskModel
from .files import load_safetensors
from .onnx import OnnxModel
from .research import load_checkpoint


@dataclass(frozen=True)
class ModelInfo:
    """A named model."""

    name: str
    family: str
    parameters: int
    description: str
    source: str
    licence: str
    cached: bool


def list_models() -> list[ModelInfo]:
    """All named models, the default first."""
    return [
        ModelInfo(
            card.name, card.family, card.parameters, card.description, card.source, card.licence, hub.is_cached(card)
        )
        for card in hub.CARDS.values()
    ]


def load_model(name_or_path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> MaskModel:
    """Loads a model in eval mode, by name (downloaded on first use) or from a file.

    Args:
        name_or_path: a name of :func:`list_models`, a ``.safetensors`` file written by :func:`save_model`, an ``.onnx``
            file written by :func:`export_model`, or a checkpoint of the original research code.
        progress: called with (bytes done, total bytes) during a download.

    Raises:
        ModelError: unknown name, or unreadable file. DownloadError: the weights cannot be downloaded.
    """
    card = hub.CARDS.get(str(name_or_path))
    path = hub.download(card, progress) if card is not None else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(hub.CARDS)
        raise ModelError(f"unknown model {str(name_or_path)!r}: it is neither a file nor one of {names}")
    readers: dict[str, Callable[[Path], MaskModel]] = {".onnx": OnnxModel, ".safetensors": load_safetensors}
    return readers.get(path.suffix, load_checkpoint)(path)


def weights_digest(model: str | os.PathLike[str] | nn.Module) -> str:
    """A hash of the file that :func:`load_model` loads, or of a loaded model's weights.

    For a model that is not downloaded yet it is the name.
    """
    if isinstance(model, OnnxModel):
        model = model.path
    if isinstance(model, nn.Module):
        content = hashlib.sha256()
        for name, tensor in model.state_dict().items():
            content.update(name.encode())
            content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return content.hexdigest()
    card = hub.CARDS.get(str(model))
    path = hub.card_path(card) if card is not None else Path(model)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(model)
