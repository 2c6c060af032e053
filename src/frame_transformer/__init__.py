"""Separate songs into vocals and instrumental.

>>> import frame_transformer
>>> stems = frame_transformer.separate("song.mp3")  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import AudioError, DownloadError, FrameTransformerError, ModelError, OptionError

if TYPE_CHECKING:
    from .checkpoints import import_state_dict, list_models, load_model, save_model
    from .evaluation import evaluate
    from .separation import Separation, Separator, separate

__version__ = "0.1.0"
__all__ = [
    "AudioError",
    "DownloadError",
    "FrameTransformerError",
    "ModelError",
    "OptionError",
    "Separation",
    "Separator",
    "evaluate",
    "import_state_dict",
    "list_models",
    "load_model",
    "save_model",
    "separate",
]
_HOMES = {
    "evaluate": "evaluation",
    "import_state_dict": "checkpoints",
    "list_models": "checkpoints",
    "load_model": "checkpoints",
    "save_model": "checkpoints",
    "Separation": "separation",
    "Separator": "separation",
    "separate": "separation",
}


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds. Names that need it are imported on first use, so that --help is fast.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
