"""Model files: weights with the family and its configuration, in one safetensors file."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ..errors import ModelError
from ..files import whole
from ..models import FAMILIES, SpectrogramConfig, create_model, family_of


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
        with whole(path) as temporary:
            save_file(state, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}") from error


def load_safetensors(path: Path) -> nn.Module:
    """A model in eval mode from a file that :func:`save_model` wrote.

    Raises:
        ModelError: the file is no such model.
    """
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
        fields = json.loads(metadata["config"])
        if patch := fields.pop("frequency_patch", None):
            fields |= _bands_of_patches(patch, fields, state)
        config = read_config(family, fields)
        with torch.device("meta"):
            model = create_model(config)
        model.load_state_dict(state, assign=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: weights and configuration do not fit: {str(error).splitlines()[0]}") from error
    return model.requires_grad_(False).eval()


def read_config(family: str, fields: dict[str, Any]) -> SpectrogramConfig:
    """The configuration of a family from plain values, lists standing for tuples."""
    config_class: Any = FAMILIES[family][0]
    return config_class(**{key: _tuples(value) for key, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _bands_of_patches(patch: int, fields: dict[str, Any], state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Bands for a file from before there were any, whose bins were folded into channels; changes ``state`` in place."""
    if patch == 1:
        return {}
    channels = (fields["in_channels"] + fields["positional_embedding"]) * patch
    state["split.bands.0.weight"] = torch.eye(channels)[:, :, None, None]
    state["split.bands.0.bias"] = torch.zeros(channels)
    for name in ("weight", "bias"):
        state[f"out.bands.0.{name}"] = state.pop(f"out.{name}")
    return {"bands": [[fields["n_fft"] // 2, patch]], "band_channels": channels}
