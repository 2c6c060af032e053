"""Models by name: configurations, weights on disk, and the list of what can be loaded."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from .. import hub
from ..errors import ModelError
from .asym_unet_mct import AsymUNetMCT, AsymUNetMCTConfig
from .config import SpectrogramConfig
from .v1 import V1, V1Config
from .v2b import V2b, V2bConfig
from .v3 import V3, V3Config

FAMILIES: dict[str, tuple[type[SpectrogramConfig], Callable[..., nn.Module]]] = {
    "asym_unet_mct": (AsymUNetMCTConfig, AsymUNetMCT),
    "v1": (V1Config, V1),
    "v2b": (V2bConfig, V2b),
    "v3": (V3Config, V3),
}


@dataclass(frozen=True)
class ModelInfo:
    """A model that :func:`load_model` knows by name."""

    name: str
    family: str
    parameters: int | None
    description: str
    source: str
    licence: str
    cached: bool


def family_of(config: SpectrogramConfig) -> str:
    """The published name of the family a configuration belongs to."""
    return next(name for name, (config_class, _) in FAMILIES.items() if type(config) is config_class)


def create_model(config: SpectrogramConfig) -> nn.Module:
    """A model with fresh weights for a configuration of any family."""
    return FAMILIES[family_of(config)][1](config)


def list_models() -> list[ModelInfo]:
    """Every model that can be loaded by name, the default first."""
    return [
        ModelInfo(
            card.name, card.family, card.parameters, card.description, card.source, card.licence, hub.is_cached(card)
        )
        for card in hub.CARDS.values()
    ]


def load_model(name_or_path: str | os.PathLike[str], progress: Callable[[int, int], None] | None = None) -> nn.Module:
    """A model in eval mode, by name (downloaded on first use) or from a file.

    Args:
        name_or_path: a name of :func:`list_models`, a ``.safetensors`` file written by :func:`save_model`, an ``.onnx``
            file written by :func:`export_model`, or a checkpoint of the original research code.
        progress: called with (bytes so far, bytes in all) during a download.

    Raises:
        ModelError: unknown name, unreadable or foreign file. DownloadError: the weights cannot be had.
    """
    card = hub.CARDS.get(str(name_or_path))
    path = hub.download(card, progress) if card is not None else Path(name_or_path)
    if not path.is_file():
        names = ", ".join(hub.CARDS)
        raise ModelError(f"unknown model {str(name_or_path)!r}: it is neither a file nor one of {names}")
    if path.suffix == ".onnx":
        from .exporting import OnnxModel

        return OnnxModel(path)
    return _load_safetensors(path) if path.suffix == ".safetensors" else load_checkpoint(path)


def load_checkpoint(path: str | os.PathLike[str]) -> nn.Module:
    """A model from a pickled state dict of the original research code, read without running its pickle code.

    Raises:
        ModelError: the file is no such checkpoint.
    """
    from .importing import import_state_dict

    try:
        mapping = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # torch.load names no common base for what broken pickles raise
        raise ModelError(f"{path}: not a checkpoint that can be read safely (torch.load with weights_only)") from error
    if not isinstance(mapping, dict):
        raise ModelError(f"{path}: holds a {type(mapping).__name__}, not a state dict")
    try:
        return import_state_dict(mapping)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def save_model(
    model: nn.Module, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, **notes: str
) -> None:
    """Writes weights, family and configuration to one ``.safetensors`` file; it appears whole or not at all.

    Args:
        dtype: type of the floating-point weights in the file.
        notes: further text entries for the file's metadata.
    """
    path = Path(path)
    config: SpectrogramConfig = model.config  # type: ignore[assignment]
    metadata = {"family": family_of(config), "config": json.dumps(dataclasses.asdict(config)), **notes}
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from error
    os.close(handle)
    try:
        save_file(state, temporary, metadata=metadata)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError):
            raise ModelError(f"{path}: cannot be written: {error}") from error
        raise


def _load_safetensors(path: Path) -> nn.Module:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from error
    family = metadata.get("family")
    if family not in FAMILIES or "config" not in metadata:
        raise ModelError(f"{path}: no frame_transformer model: its metadata names no family and configuration")
    try:
        config = read_config(family, json.loads(metadata["config"]))
        with torch.device("meta"):
            model = create_model(config)
        model.load_state_dict(state, assign=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: weights and configuration do not fit: {str(error).splitlines()[0]}") from error
    return model.requires_grad_(False).eval()


def read_config(family: str, fields: dict[str, Any]) -> SpectrogramConfig:
    """The configuration of a family from plain values, lists standing for tuples."""
    config_class: Any = FAMILIES[family][0]
    return config_class(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
