"""Lookup of model families by name."""

from collections.abc import Callable

from .asym_unet_mct import AsymUNetMCT, AsymUNetMCTConfig
from .config import MaskModelConfig
from .mask_model import MaskModel
from .v1 import V1, V1Config
from .v2b import V2b, V2bConfig
from .v3 import V3, V3Config

FAMILIES: dict[str, tuple[type[MaskModelConfig], Callable[..., MaskModel]]] = {
    "asym_unet_mct": (AsymUNetMCTConfig, AsymUNetMCT),
    "v1": (V1Config, V1),
    "v2b": (V2bConfig, V2b),
    "v3": (V3Config, V3),
}


def family_of(config: MaskModelConfig) -> str:
    """The name of the family of a configuration."""
    return next(name for name, (config_class, _) in FAMILIES.items() if type(config) is config_class)


def create_model(config: MaskModelConfig) -> MaskModel:
    """Creates a model with random weights from a configuration of any family."""
    return FAMILIES[family_of(config)][1](config)
