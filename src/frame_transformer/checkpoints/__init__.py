"""Model files: safetensors with configuration, checkpoints of the research code, and ONNX."""

from .files import save_model
from .loading import ModelInfo, list_models, load_model, weights_digest
from .onnx import OnnxModel, export_model
from .research import import_state_dict, load_checkpoint

__all__ = [
    "ModelInfo",
    "OnnxModel",
    "export_model",
    "import_state_dict",
    "list_models",
    "load_checkpoint",
    "load_model",
    "save_model",
    "weights_digest",
]
