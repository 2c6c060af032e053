"""From a song to its stems."""

from .batch import FileResult, separate_file, separate_files
from .cluster import find_remote_songs, separate_on_cluster
from .meter import VocalsMeter
from .options import OutputOptions, SeparationOptions
from .separator import Separation, Separator, StemBlock, separate
from .songs import FoundSongs, Song, find_songs, spooled

__all__ = [
    "FileResult",
    "FoundSongs",
    "OutputOptions",
    "Separation",
    "SeparationOptions",
    "Separator",
    "Song",
    "StemBlock",
    "VocalsMeter",
    "find_remote_songs",
    "find_songs",
    "separate",
    "separate_file",
    "separate_files",
    "separate_on_cluster",
    "spooled",
]
