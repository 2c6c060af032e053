"""State dicts of the original research code: recognise the family and its hyperparameters, translate the keys."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError
from ..models import (
    AsymUNetMCTConfig,
    MaskModel,
    MaskModelConfig,
    SignalConfig,
    V1Config,
    V2bConfig,
    V3Config,
    create_model,
)

Rule = tuple[str, str | Callable[[re.Match[str]], str]]

# The original's name of a key of ours: (pattern on our key, replacement), applied in this order, all that match.
# Our lists count from 0 and decoders from the deepest; the original counts levels from 1.
_LADDER: tuple[Rule, ...] = (
    (r"^input_transformer\.", "enc0_transformer."),
    (r"^encoders\.(\d+)\.", lambda m: f"enc{int(m[1]) + 1}.body."),
    (r"^encoder_transformers\.(\d+)\.", lambda m: f"enc{int(m[1]) + 1}_transformer."),
)
_POSITIONAL: tuple[Rule, ...] = (
    (r"^positional_embedding\.extract\.(\d+)", lambda m: f"positional_embedding.extract{int(m[1]) + 1}"),
    (r"^positional_embedding\.encode\.(\d+)", lambda m: f"positional_embedding.encoder{int(m[1]) + 1}"),
)


def _decoders(levels: int) -> tuple[Rule, ...]:
    return (
        (r"^decoders\.(\d+)\.body\.", lambda m: f"dec{levels - int(m[1])}.body."),
        (r"^decoder_transformers\.(\d+)\.", lambda m: f"dec{levels - int(m[1])}_transformer."),
    )


def _feed_forward(first: int) -> tuple[Rule, ...]:
    return ((r"feed_forward\.0\.", f"conv{first}."), (r"feed_forward\.2\.", f"conv{first + 1}."))


KEY_RULES: dict[type[MaskModelConfig], tuple[Rule, ...]] = {
    V1Config: (
        *_LADDER,
        *_decoders(5),
        (r"\.body\.", ".body.0."),
        (r"(norm\d?)\.(weight|bias)$", r"\1.norm.\2"),
        (r"\.o_proj\.", ".out_proj."),
        *_feed_forward(1),
        (r"^out\.weight$", "out"),
    ),
    V2bConfig: (
        *_POSITIONAL,
        *_LADDER,
        *_decoders(5),
        *_feed_forward(1),
        (r"^out\.weight$", "out"),
    ),
    V3Config: (*_POSITIONAL, *_feed_forward(1)),
    AsymUNetMCTConfig: (
        *_POSITIONAL,
        *_LADDER,
        *_decoders(8),
        (r"^latent\.(\d+)\.(norm\d)\.", r"latent.\1.\2.norm."),
        (r"^latent\.", "enc9_transformer."),
        *_feed_forward(3),
        (r"conv(1a|1b|2)\.linear\.", r"conv\1."),
    ),
}
# Buffers of the original that hold no weight: position tables, made again where they are needed.
_BUFFER = re.compile(r"(\.freqs|^positional_embedding\.pe)$")


class _Shapes(dict[str, tuple[int, ...]]):
    """Shapes by key; a key that is asked for and is not there makes the file incomplete."""

    def __missing__(self, key: str) -> tuple[int, ...]:
        raise ModelError(f"not a complete checkpoint of the original research code: key {key!r} is missing")

    def count(self, pattern: str) -> int:
        return len({match[1] for key in self if (match := re.match(pattern, key))})


def _heads(features: int, rotary: int) -> int:
    """Heads from the rotary buffer: it holds half of a head's features; heads are a divisor of all features."""
    for heads in range(1, features + 1):
        if features % heads == 0 and features // heads // 2 == rotary:
            return heads
    raise ModelError(f"no number of heads splits {features} bins into a rotary buffer of {rotary}")


def _common(features: int, in_channels: int, rotary: int) -> dict[str, Any]:
    """What all families have: the original's hop is half its window, and it names no sample rate."""
    return {
        "signal": SignalConfig(n_fft=2 * features, hop_length=features, channels=in_channels),
        "heads": _heads(features, rotary),
    }


def _out_channels(shapes: _Shapes, layer: str) -> int:
    """Of a convolution, or of a linear layer along frequency that may change the number of channels."""
    for weight in ("weight", "weight_dw", "weight_pw"):
        if f"{layer}.{weight}" in shapes:
            return shapes[f"{layer}.{weight}"][0]
    return shapes[f"{layer}.weight"][0]


def _v1_config(shapes: _Shapes) -> V1Config:
    _, hidden, features = shapes["enc0_transformer.conv1.weight_pw"]
    in_channels = shapes["enc0_transformer.embed.weight"][1]
    return V1Config(
        **_common(features, in_channels, shapes["enc0_transformer.attn.rotary_embedding.freqs"][0]),
        widths=tuple(shapes[f"enc{i}.body.0.conv1.weight"][0] for i in range(1, 7)),
        expansion=hidden // features,
    )


def _v2b_config(shapes: _Shapes) -> V2bConfig:
    maps, _, features = shapes["enc0_transformer.norm1.weight"]
    return V2bConfig(
        **_common(features, shapes["out"][0], shapes["enc0_transformer.attn.embedding.freqs"][0]),
        widths=tuple(_out_channels(shapes, f"enc{i}.body.conv1") for i in range(1, 7)),
        attention_maps=maps,
        expansion=shapes["enc0_transformer.conv1.weight"][0] // maps,
    )


def _v3_config(shapes: _Shapes) -> V3Config:
    channels, _, features = shapes["transformer.0.norm1.weight"]
    return V3Config(
        **_common(features, shapes["out.weight"][0], shapes["transformer.0.attn.embedding.freqs"][0]),
        channels=channels,
        expansion=shapes["transformer.0.conv1.weight"][0] // channels,
        layers=shapes.count(r"transformer\.(\d+)\."),
    )


def _asym_unet_mct_config(shapes: _Shapes) -> AsymUNetMCTConfig:
    maps, hidden, features = shapes["enc1_transformer.conv3.weight_pw"]
    latent = shapes["enc9.body.conv1.weight"][0]
    layers = shapes.count(r"enc9_transformer\.(\d+)\.")
    return AsymUNetMCTConfig(
        **_common(features, shapes["out.weight"][0], shapes["enc1_transformer.attn.embedding.freqs"][0]),
        widths=tuple(shapes[f"enc{i}.body.conv1.weight"][0] for i in range(1, 10)),
        attention_maps=maps,
        expansion=hidden,
        latent_layers=layers,
        latent_expansion=shapes["enc9_transformer.0.conv3.weight"][0] // latent if layers else 4,
    )


# The first key that is present names the family.
_FAMILIES: tuple[tuple[str, Callable[[_Shapes], MaskModelConfig]], ...] = (
    ("enc1_transformer.glu.0.weight_pw", _asym_unet_mct_config),
    ("transformer.0.norm1.weight", _v3_config),
    ("enc0_transformer.attn.q_proj.0.weight", _v2b_config),
    ("enc0_transformer.attn.q_proj.weight_pw", _v1_config),
)


def _original_key(key: str, rules: tuple[Rule, ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _listed(keys: set[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def import_state_dict(mapping: Mapping[str, Any]) -> MaskModel:
    """Builds the model that a state dict of the original research code was saved from.

    The family and every hyperparameter are read off the keys and shapes. Keys may carry the ``module.`` prefix of
    DistributedDataParallel.

    Returns:
        the model in eval mode, float32, on the CPU.

    Raises:
        ModelError: the mapping is of no known family, or keys are missing, unexpected or of another shape.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in mapping.items():
        if not isinstance(value, Tensor):
            raise ModelError(f"not a state dict: key {key!r} holds a {type(value).__name__}, not a tensor")
        tensors[key.removeprefix("module.")] = value
    shapes = _Shapes({key: tuple(value.shape) for key, value in tensors.items()})
    read_config = next((read for marker, read in _FAMILIES if marker in shapes), None)
    if read_config is None:
        markers = ", ".join(marker for marker, _ in _FAMILIES)
        raise ModelError(
            "not a checkpoint of a known family: it misses the keys that tell the families apart "
            f"({markers}) and holds the unexpected keys {_listed(set(tensors)) or '(none)'}"
        )
    try:
        config = read_config(shapes)
        with torch.device("meta"):
            model = create_model(config)
    except (ValueError, IndexError) as error:
        raise ModelError(f"checkpoint with inconsistent shapes: {error}") from error

    own = model.state_dict()
    rules = KEY_RULES[type(config)]
    original = {key: _original_key(key, rules) for key in own}
    weights = {key for key in tensors if not _BUFFER.search(key)}
    missing, unexpected = set(original.values()) - weights, weights - set(original.values())
    if missing or unexpected:
        parts = [
            f"{what} keys {_listed(keys)}" for what, keys in (("missing", missing), ("unexpected", unexpected)) if keys
        ]
        raise ModelError(f"not a complete checkpoint of family {type(model).__name__}: {'; '.join(parts)}")

    state = {}
    for key, source in original.items():
        # The original keeps the last 1×1 convolution as a bare matrix.
        value = tensors[source][:, :, None, None] if source == "out" else tensors[source]
        if value.shape != own[key].shape:
            raise ModelError(f"key {source!r} has shape {tuple(value.shape)}, expected {tuple(own[key].shape)}")
        state[key] = value.detach().to("cpu", torch.float32)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def load_checkpoint(path: str | os.PathLike[str]) -> MaskModel:
    """A model from a pickled state dict of the original research code, read without running its pickle code.

    Raises:
        ModelError: the file is no such checkpoint.
    """
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
