"""From a song to its stems."""

from .batch import FileResult, OutputOptions, find_songs, separate_file, separate_files
from .meter import VocalsMeter
from .separator import Separation, Separator, StemBlock, separate

__all__ = [
    "FileResult",
    "OutputOptions",
    "Separation",
    "Separator",
    "StemBlock",
    "VocalsMeter",
    "find_songs",
    "separate",
    "separate_file",
    "separate_files",
]
