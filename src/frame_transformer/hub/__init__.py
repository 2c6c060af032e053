"""Models that are known by name and where their files are; knows no model code."""

from .cards import CARDS, ModelCard, cache_folder, card_path, is_cached
from .download import download

__all__ = ["CARDS", "ModelCard", "cache_folder", "card_path", "download", "is_cached"]
