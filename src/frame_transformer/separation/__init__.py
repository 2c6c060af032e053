"""From a song to its stems."""

from .batch import FileResult, OutputOptions, find_songs, separate_file, separate_files
from .cluster import Track, find_tracks, separate_on_cluster
from .meter import VocalsMeter
from .separator import Separation, Separator, StemBlock, separate

__all__ = [
    "FileResult",
    "OutputOptions",
    "Separation",
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
