"""Model files: weights with the family and its configuration, in one safetensors file."""

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError
from ..files import whole
from ..models import FAMILIES, MaskModel, MaskModelConfig, create_model, family_of


def save_model(
    model: MaskModel, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, **notes: str
) -> None:
    """Writes weights, family and configuration to one ``.safetensors`` file; it appears whole or not at all.

    Args:
        dtype: type of the floating-point weights in the file.
        notes: further text entries for the file's metadata.

    Raises:
        ModelError: the file cannot be written.
    """
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    try:
        with whole(path) as temporary:
            save_file(state, temporary, metadata=write_config(model.config) | notes)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot be written: {error}") from error


def load_safetensors(path: Path) -> MaskModel:
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
    try:
        config = read_config(metadata)
        with torch.device("meta"):
            model = create_model(config)
        model.load_state_dict(state, assign=True)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: weights and configuration do not fit: {str(error).splitlines()[0]}") from error
    model.requires_grad_(False).eval()
    return model


def write_config(config: MaskModelConfig) -> dict[str, str]:
    """Family and configuration as the metadata of a file."""
    return {"family": family_of(config), "config": json.dumps(dataclasses.asdict(config))}


def read_config(metadata: Mapping[str, str]) -> MaskModelConfig:
    """The configuration in a file's metadata; fields that are not there have their default.

    Raises:
        ModelError: there is none, or a field is unknown, of another type or out of range.
    """
    family = metadata.get("family")
    if family not in FAMILIES or "config" not in metadata:
        raise ModelError("not a model of frame_transformer: its metadata names no family and configuration")
    try:
        fields = json.loads(metadata["config"])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its configuration is not JSON: {error}") from error
    config = _from_json(FAMILIES[family][0], fields, "config")
    assert isinstance(config, MaskModelConfig)
    return config


def _from_json(kind: Any, value: Any, name: str) -> Any:
    """A value of JSON as the type ``kind``: a dataclass, tuple, union, literal, int, float, bool or str.

    Raises:
        ModelError: it is of another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        types_by_name = typing.get_type_hints(kind)
        unknown = value.keys() - types_by_name.keys()
        if unknown:
            raise ModelError(f"its configuration has the unknown field {min(unknown)!r}")
        fields = {key: _from_json(types_by_name[key], item, key) for key, item in value.items()}
        return typing.cast(Any, kind)(**fields)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) == len(value):
            return tuple(_from_json(item_kind, item, name) for item_kind, item in zip(kinds, value, strict=True))
    if origin in (types.UnionType, typing.Union):
        for choice in arguments:
            try:
                return _from_json(choice, value, name)
            except ModelError:
                continue
    if (origin is typing.Literal and value in arguments) or type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise ModelError(f"its configuration is not valid: {name} cannot be {json.dumps(value)[:60]}")
