"""Model files: weights, family and configuration in one safetensors file."""

import dataclasses
import json
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import ModelError
from ..files import whole
from ..models import FAMILIES, MaskModel, MaskModelConfig, create_model, family_of

MAX_CONFIG_LENGTH = 100_000


def save_model(
    model: MaskModel, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32, **notes: str
) -> None:
    """Writes weights, family and configuration to one ``.safetensors`` file, atomically.

    Args:
        dtype: data type of the floating-point weights in the file.
        notes: additional text entries for the metadata.

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
    """Loads a model in eval mode from a file written by :func:`save_model`.

    Configuration and shapes are checked before weights are read.

    Raises:
        ModelError: the file is not such a model.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            model = empty_model(read_config(file.metadata() or {}))
            expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not a mapping
            if wrong := sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)):
                raise ModelError(f"weights and configuration do not fit: {shorten(wrong)}")
            fill_model(model, {key: file.get_tensor(key) for key in expected})
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except Exception as error:  # safetensors raises undocumented errors for unusual headers or types
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from error
    return model


def empty_model(config: MaskModelConfig) -> MaskModel:
    """Creates a model without memory for its weights.

    Raises:
        ModelError: its sizes are inconsistent.
    """
    try:
        with torch.device("meta"):
            return create_model(config)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"its configuration is not valid: {error}") from error


def fill_model(model: MaskModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Assigns weights with matching names and shapes to an empty model as float32, and sets it to eval mode.

    Raises:
        ModelError: weights are not floating-point numbers, or not finite.
    """
    state = {}
    for key, value in weights.items():
        state[key] = value.float()
        if not value.is_floating_point() or not state[key].isfinite().all():
            raise ModelError(f"the weights {key!r} are not finite floating-point numbers")
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False).eval()


def shorten(keys: Sequence[str]) -> str:
    """Formats the first few keys for a message."""
    return ", ".join(key[:80] for key in keys[:6]) + (f" and {len(keys) - 6} more" if len(keys) > 6 else "")


def write_config(config: MaskModelConfig) -> dict[str, str]:
    """Family and configuration as the metadata of a file."""
    return {"family": family_of(config), "config": json.dumps(dataclasses.asdict(config))}


def read_config(metadata: Mapping[str, str]) -> MaskModelConfig:
    """Reads the configuration from the metadata of a file; missing fields have their defaults.

    Raises:
        ModelError: the configuration is missing, or a field is unknown, of another type or out of range.
    """
    family = metadata.get("family")
    if family not in FAMILIES or "config" not in metadata:
        raise ModelError("not a model of frame_transformer: its metadata names no family and configuration")
    try:
        if len(metadata["config"]) > MAX_CONFIG_LENGTH:
            raise ValueError("it is too long")
        fields = json.loads(metadata["config"])
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its configuration is not JSON: {error}") from error
    config = _from_json(FAMILIES[family][0], fields, "config")
    assert isinstance(config, MaskModelConfig)
    return config


def _from_json(kind: Any, value: Any, name: str) -> Any:
    """Converts a JSON value to the type ``kind``: a dataclass, tuple, union, literal, int, float, bool or str.

    Raises:
        ModelError: the value has another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        types_by_name = typing.get_type_hints(kind)
        unknown = value.keys() - types_by_name.keys()
        if unknown:
            raise ModelError(f"its configuration has the unknown field {min(unknown)[:80]!r}")
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
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    raise ModelError(f"its configuration is not valid: {name} cannot be {json.dumps(value)[:80]}")
