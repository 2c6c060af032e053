"""Separation of songs into stems."""

from .batch import FileResult, separate_file, separate_files
from .cluster import find_remote_songs, separate_on_cluster
from .ensembles import ModelEnsemble
from .options import STEMS, OutputOptions, SeparationOptions
from .separator import Separation, Separator, separate
from .songs import FoundSongs, Song, find_songs, spooled
from .stream import StemBlock
from .vocals_level import VocalsLevel

__all__ = [
    "STEMS",
    "FileResult",
    "FoundSongs",
    "ModelEnsemble",
    "OutputOptions",
    "Separation",
    "SeparationOptions",
    "Separator",
    "Song",
    "StemBlock",
    "VocalsLevel",
    "find_remote_songs",
    "find_songs",
    "separate",
    "separate_file",
    "separate_files",
    "separate_on_cluster",
    "spooled",
]
