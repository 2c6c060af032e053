"""The model families, composed of blocks from :mod:`frame_transformer.layers`."""

from .asym_unet_mct import AsymUNetMCT, AsymUNetMCTConfig
from .config import MaskModelConfig, SignalConfig, WindowConfig
from .families import FAMILIES, create_model, family_of
from .mask_model import MaskModel, input_magnitudes, window_level
from .v1 import V1, V1Config
from .v2b import V2b, V2bConfig
from .v3 import V3, V3Config

__all__ = [
    "FAMILIES",
    "V1",
    "V3",
    "AsymUNetMCT",
    "AsymUNetMCTConfig",
    "MaskModel",
    "MaskModelConfig",
    "SignalConfig",
    "V1Config",
    "V2b",
    "V2bConfig",
    "V3Config",
    "WindowConfig",
    "create_model",
    "family_of",
    "input_magnitudes",
    "window_level",
]
