"""Models that are known by name and where their files are; knows no model code."""

from .cache import download
from .cards import CARDS, ModelCard, cache_folder, card_path, is_cached

__all__ = ["CARDS", "ModelCard", "cache_folder", "card_path", "download", "is_cached"]
