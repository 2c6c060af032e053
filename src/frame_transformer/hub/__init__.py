"""Models that are known by name and where their files are; knows no model code."""

from .cards import CARDS, ModelCard, cache_folder, is_cached, locate

__all__ = ["CARDS", "ModelCard", "cache_folder", "is_cached", "locate"]
