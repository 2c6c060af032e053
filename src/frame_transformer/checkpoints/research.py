"""Import of checkpoints of the original research code: recognises the family and sizes, and translates keys."""

import functools
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
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
)
from .files import empty_model, fill_model, shorten

UNUSED = "unused"
MAX_KEYS = 10_000

# Module names in the research code and in this package, one table per family; {n} is a number. The first row that is a
# prefix of a key applies, in both directions. Buffers there contain position tables, which are recreated.
_POSITIONAL_EMBEDDING = {
    "positional_embedding.pe": UNUSED,
    "positional_embedding.extract{n}": "positional_embedding.extract.{n-1}",
    "positional_embedding.encoder{n}": "positional_embedding.encode.{n-1}",
    "positional_embedding.out": "positional_embedding.out",
}
KEYS: dict[type[MaskModelConfig], dict[str, str]] = {
    V1Config: {
        "enc0_transformer.attn.rotary_embedding": UNUSED,
        "enc0_transformer.attn.out_proj": "input_transformer.attn.o_proj",
        "enc0_transformer.norm1.norm": "input_transformer.norm1",
        "enc0_transformer.norm2.norm": "input_transformer.norm2",
        "enc0_transformer.conv1": "input_transformer.feed_forward.0",
        "enc0_transformer.conv2": "input_transformer.feed_forward.2",
        "enc0_transformer": "input_transformer",
        "enc{n}.body.0.norm.norm": "levels.{n-1}.encoder.body.norm",
        "enc{n}.body.0": "levels.{n-1}.encoder.body",
        "enc{n}_transformer.attn.rotary_embedding": UNUSED,
        "enc{n}_transformer.attn.out_proj": "levels.{n-1}.encoder_transformer.attn.o_proj",
        "enc{n}_transformer.norm1.norm": "levels.{n-1}.encoder_transformer.norm1",
        "enc{n}_transformer.norm2.norm": "levels.{n-1}.encoder_transformer.norm2",
        "enc{n}_transformer.conv1": "levels.{n-1}.encoder_transformer.feed_forward.0",
        "enc{n}_transformer.conv2": "levels.{n-1}.encoder_transformer.feed_forward.2",
        "enc{n}_transformer": "levels.{n-1}.encoder_transformer",
        "dec{n}.body.0.norm.norm": "levels.{n-1}.decoder.body.norm",
        "dec{n}.body.0": "levels.{n-1}.decoder.body",
        "dec{n}_transformer.attn1.rotary_embedding": UNUSED,
        "dec{n}_transformer.attn1.out_proj": "levels.{n-1}.decoder_transformer.attn1.o_proj",
        "dec{n}_transformer.attn2.rotary_embedding": UNUSED,
        "dec{n}_transformer.attn2.out_proj": "levels.{n-1}.decoder_transformer.attn2.o_proj",
        "dec{n}_transformer.norm1.norm": "levels.{n-1}.decoder_transformer.norm1",
        "dec{n}_transformer.norm2.norm": "levels.{n-1}.decoder_transformer.norm2",
        # The decoder of the research code uses its first norm twice and its third never.
        "dec{n}_transformer.norm3.norm": UNUSED,
        "dec{n}_transformer.conv1": "levels.{n-1}.decoder_transformer.feed_forward.0",
        "dec{n}_transformer.conv2": "levels.{n-1}.decoder_transformer.feed_forward.2",
        "dec{n}_transformer": "levels.{n-1}.decoder_transformer",
        "out": "out.weight",
    },
    V2bConfig: {
        **_POSITIONAL_EMBEDDING,
        "enc0_transformer.attn.embedding": UNUSED,
        "enc0_transformer.conv1": "input_transformer.feed_forward.0",
        "enc0_transformer.conv2": "input_transformer.feed_forward.2",
        "enc0_transformer": "input_transformer",
        "enc{n}": "levels.{n-1}.encoder",
        "enc{n}_transformer.attn.embedding": UNUSED,
        "enc{n}_transformer.conv1": "levels.{n-1}.encoder_transformer.feed_forward.0",
        "enc{n}_transformer.conv2": "levels.{n-1}.encoder_transformer.feed_forward.2",
        "enc{n}_transformer": "levels.{n-1}.encoder_transformer",
        "dec{n}": "levels.{n-1}.decoder",
        "dec{n}_transformer.attn1.embedding": UNUSED,
        "dec{n}_transformer.attn2.embedding": UNUSED,
        "dec{n}_transformer.conv1": "levels.{n-1}.decoder_transformer.feed_forward.0",
        "dec{n}_transformer.conv2": "levels.{n-1}.decoder_transformer.feed_forward.2",
        "dec{n}_transformer": "levels.{n-1}.decoder_transformer",
        "out": "out.weight",
    },
    V3Config: {
        **_POSITIONAL_EMBEDDING,
        "norm": "norm",
        "conv1": "conv1",
        "conv2": "conv2",
        "identity": "identity",
        "transformer.{n}.attn.embedding": UNUSED,
        "transformer.{n}.conv1": "transformer.{n}.feed_forward.0",
        "transformer.{n}.conv2": "transformer.{n}.feed_forward.2",
        "transformer.{n}": "transformer.{n}",
        "out": "out",
    },
    AsymUNetMCTConfig: {
        **_POSITIONAL_EMBEDDING,
        "enc9_transformer.{n}.norm1.norm": "latent.{n}.norm1",
        "enc9_transformer.{n}.norm2.norm": "latent.{n}.norm2",
        "enc9_transformer.{n}.norm3.norm": "latent.{n}.norm3",
        "enc9_transformer.{n}.norm4.norm": "latent.{n}.norm4",
        "enc9_transformer.{n}.norm5.norm": "latent.{n}.norm5",
        "enc9_transformer.{n}.attn.embedding": UNUSED,
        "enc9_transformer.{n}.conv3": "latent.{n}.feed_forward.0",
        "enc9_transformer.{n}.conv4": "latent.{n}.feed_forward.2",
        "enc9_transformer.{n}": "latent.{n}",
        "enc{n}": "levels.{n-1}.encoder",
        "enc{n}_transformer.attn.embedding": UNUSED,
        "enc{n}_transformer.conv1b.conv": "levels.{n-1}.encoder_transformer.conv1b.conv",
        "enc{n}_transformer.conv1b": "levels.{n-1}.encoder_transformer.conv1b.linear",
        "enc{n}_transformer.conv2.conv": "levels.{n-1}.encoder_transformer.conv2.conv",
        "enc{n}_transformer.conv2": "levels.{n-1}.encoder_transformer.conv2.linear",
        "enc{n}_transformer.conv3": "levels.{n-1}.encoder_transformer.feed_forward.0",
        "enc{n}_transformer.conv4": "levels.{n-1}.encoder_transformer.feed_forward.2",
        "enc{n}_transformer": "levels.{n-1}.encoder_transformer",
        "dec{n}": "levels.{n-1}.decoder",
        "dec{n}_transformer.attn1a.embedding": UNUSED,
        "dec{n}_transformer.attn1b.embedding": UNUSED,
        "dec{n}_transformer.attn2.embedding": UNUSED,
        "dec{n}_transformer.attn3.embedding": UNUSED,
        "dec{n}_transformer.conv1a.conv": "levels.{n-1}.decoder_transformer.conv1a.conv",
        "dec{n}_transformer.conv1a": "levels.{n-1}.decoder_transformer.conv1a.linear",
        "dec{n}_transformer.conv1b.conv": "levels.{n-1}.decoder_transformer.conv1b.conv",
        "dec{n}_transformer.conv1b": "levels.{n-1}.decoder_transformer.conv1b.linear",
        "dec{n}_transformer.conv2.conv": "levels.{n-1}.decoder_transformer.conv2.conv",
        "dec{n}_transformer.conv2": "levels.{n-1}.decoder_transformer.conv2.linear",
        "dec{n}_transformer.conv3": "levels.{n-1}.decoder_transformer.feed_forward.0",
        "dec{n}_transformer.conv4": "levels.{n-1}.decoder_transformer.feed_forward.2",
        "dec{n}_transformer": "levels.{n-1}.decoder_transformer",
        "out": "out",
    },
}


def our_key(key: str, family: type[MaskModelConfig]) -> str | None:
    """Translates a key of the research code; the result begins with UNUSED if it is dropped, None if it is unknown."""
    return _renamed(key, KEYS[family].items())


def original_key(key: str, family: type[MaskModelConfig]) -> str | None:
    """Translates a key to that of the research code; None if there is none."""
    return _renamed(key, ((ours, original) for original, ours in KEYS[family].items()))


def _renamed(key: str, rows: Iterable[tuple[str, str]]) -> str | None:
    for source, target in rows:
        if match := _pattern(source).match(key):
            found = match.groupdict()
            number = int(found["n"]) if "n" in found else int(found.get("before", 0)) + 1
            return target.replace("{n}", str(number)).replace("{n-1}", str(number - 1)) + key[match.end() :]
    return None


@functools.cache
def _pattern(row: str) -> re.Pattern[str]:
    numbered = re.escape(row).replace(r"\{n\}", r"(?P<n>\d{1,4})").replace(r"\{n\-1\}", r"(?P<before>\d{1,4})")
    return re.compile(numbered + r"(?=\.|$)")


class _Shapes(dict[str, tuple[int, ...]]):
    """Shapes by key; a missing key raises ModelError."""

    def __missing__(self, key: str) -> tuple[int, ...]:
        raise ModelError(f"not a complete checkpoint of the original research code: key {key!r} is missing")

    def count(self, pattern: str) -> int:
        return len({match[1] for key in self if (match := re.match(pattern, key))})


def _heads(features: int, rotary: int) -> int:
    """Infers the number of heads from the rotary buffer, whose size is half of a head's features."""
    for heads in range(1, features + 1):
        if features % heads == 0 and features // heads // 2 == rotary:
            return heads
    raise ModelError(f"no number of heads splits {features} bins into a rotary buffer of {rotary}")


def _common(features: int, in_channels: int, rotary: int) -> dict[str, Any]:
    """The configuration common to all families. The research code has a hop of half the window and no sample rate."""
    return {
        "signal": SignalConfig(n_fft=2 * features, hop_length=features, channels=in_channels),
        "heads": _heads(features, rotary),
    }


def _out_channels(shapes: _Shapes, layer: str) -> int:
    """Output channels of a convolution, or of a linear layer that may change the number of channels."""
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


# The first of these keys that is present determines the family.
_FAMILIES: tuple[tuple[str, Callable[[_Shapes], MaskModelConfig]], ...] = (
    ("enc1_transformer.glu.0.weight_pw", _asym_unet_mct_config),
    ("transformer.0.norm1.weight", _v3_config),
    ("enc0_transformer.attn.q_proj.0.weight", _v2b_config),
    ("enc0_transformer.attn.q_proj.weight_pw", _v1_config),
)


def import_state_dict(mapping: Mapping[str, Any]) -> MaskModel:
    """Builds a model from a state dict of the original research code.

    The family and all hyperparameters are inferred from the keys and shapes. Keys may have the ``module.`` prefix of
    DistributedDataParallel.

    Returns:
        the model in eval mode, float32, on the CPU.

    Raises:
        ModelError: the family is unknown, or keys are missing, unexpected or of another shape.
    """
    tensors = _checked(mapping)
    shapes = _Shapes({key: tuple(value.shape) for key, value in tensors.items()})
    read_config = next((read for marker, read in _FAMILIES if marker in shapes), None)
    if read_config is None:
        markers = ", ".join(marker for marker, _ in _FAMILIES)
        raise ModelError(
            "not a checkpoint of a known family: it misses the keys that tell the families apart "
            f"({markers}) and holds the unexpected keys {shorten(sorted(tensors)) or '(none)'}"
        )
    try:
        config = read_config(shapes)
    except (ValueError, IndexError, ArithmeticError) as error:
        raise ModelError(f"checkpoint with inconsistent shapes: {error}") from error
    model = empty_model(config)
    own = model.state_dict()
    state: dict[str, Tensor] = {}
    unexpected = set()
    for source, value in tensors.items():
        name = our_key(source, type(config))
        if name is None or (name not in own and not name.startswith(UNUSED)):
            unexpected.add(source)
        elif name in own:
            # V1 and V2b keep the last 1×1 convolution as a bare matrix.
            value = value[:, :, None, None] if source == "out" and value.ndim == 2 else value
            if value.shape != own[name].shape:
                raise ModelError(f"key {source!r} has shape {tuple(value.shape)}, expected {tuple(own[name].shape)}")
            state[name] = value.detach().clone()
    missing = {original_key(key, type(config)) or key for key in own.keys() - state.keys()}
    if missing or unexpected:
        found = [
            f"{what} keys {shorten(sorted(k))}" for what, k in (("missing", missing), ("unexpected", unexpected)) if k
        ]
        raise ModelError(f"not a complete checkpoint of family {type(model).__name__}: {'; '.join(found)}")
    fill_model(model, state)
    return model


def _checked(mapping: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Checks a state dict and returns its tensors by name without prefix.

    Raises:
        ModelError: keys are not strings, values are not plain tensors, or tensors are larger than their storage.
    """
    if len(mapping) > MAX_KEYS:
        raise ModelError(f"not a state dict of a known family: it has {len(mapping)} keys")
    tensors: dict[str, Tensor] = {}
    for key, value in mapping.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ModelError(f"not a state dict: key {key!r:.80} holds a {type(value).__name__}, not a tensor")
        plain = (
            value.layout is torch.strided and value.device.type == "cpu" and not (value.is_nested or value.is_quantized)
        )
        if not plain or not value.is_floating_point():
            raise ModelError(f"not a state dict: key {key!r:.80} is no plain floating-point tensor")
        tensors[key.removeprefix("module.")] = value
    stored = {value.untyped_storage().data_ptr(): value.untyped_storage().nbytes() for value in tensors.values()}
    # Weights may be tied, but must not expand a small storage to more memory than there is.
    if sum(value.nbytes for value in tensors.values()) > 2 * sum(stored.values()):
        raise ModelError("not a state dict: its tensors are larger than what it stores")
    return tensors


def load_checkpoint(path: str | os.PathLike[str]) -> MaskModel:
    """Loads a pickled state dict of the original research code without running code of the pickle.

    Raises:
        ModelError: the file is not such a checkpoint.
    """
    path = Path(path)
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path)
        # Memory-mapped, so that shapes are checked before weights are read; not possible for files before PyTorch 1.6.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated types and protocols
            mapping = torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=archive)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ModelError:
        raise
    except Exception as error:  # the errors of torch.load have no common base class
        raise ModelError(f"{path}: not a checkpoint that can be read safely (torch.load with weights_only)") from error
    if not isinstance(mapping, dict):
        raise ModelError(f"{path}: holds a {type(mapping).__name__}, not a state dict")
    try:
        return import_state_dict(mapping)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_archive(path: Path) -> None:
    """Checks that a zip archive is not compressed, since PyTorch does not compress checkpoints.

    Raises:
        ModelError: the archive is compressed.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ModelError(f"{path}: not a checkpoint of PyTorch: {unpacked} bytes are packed into a smaller file")
