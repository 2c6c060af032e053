"""From a song to its stems."""

from .batch import FileResult, find_songs, separate_file, separate_files
from .cluster import Track, find_tracks, separate_on_cluster
from .meter import VocalsMeter
from .options import OutputOptions, SeparationOptions
from .separator import Separation, Separator, StemBlock, separate

__all__ = [
    "FileResult",
    "OutputOptions",
    "Separation",
    "SeparationOptions",
    "Separator",
    "StemBlock",
    "Track",
    "VocalsMeter",
    "find_songs",
    "find_tracks",
    "separate",
    "separate_file",
    "separate_files",
    "separate_on_cluster",
]
