"""Named models and their download; independent of the model code."""

from .cache import download
from .cards import CARDS, ModelCard, cache_folder, card_path, is_cached

__all__ = ["CARDS", "ModelCard", "cache_folder", "card_path", "download", "is_cached"]
