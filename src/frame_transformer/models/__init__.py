"""The model families, each composed from :mod:`frame_transformer.layers`."""

from .asym_unet_mct import AsymUNetMCT, AsymUNetMCTConfig
from .config import SpectrogramConfig
from .exporting import OnnxModel, export_model
from .importing import import_state_dict
from .registry import ModelInfo, create_model, list_models, load_checkpoint, load_model, read_config, save_model
from .v1 import V1, V1Config
from .v2b import V2b, V2bConfig
from .v3 import V3, V3Config

__all__ = [
    "V1",
    "V3",
    "AsymUNetMCT",
    "AsymUNetMCTConfig",
    "ModelInfo",
    "OnnxModel",
    "SpectrogramConfig",
    "V1Config",
    "V2b",
    "V2bConfig",
    "V3Config",
    "create_model",
    "export_model",
    "import_state_dict",
    "list_models",
    "load_checkpoint",
    "load_model",
    "read_config",
    "save_model",
]
