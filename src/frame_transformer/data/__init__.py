"""Training data: catalogues of songs, their prepared form, random crops and VoxAug."""

from .catalogue import DataError, Song, discover, split_of
from .crops import CropConfig, CropDataset, CropSampler
from .prepared import PreparedSong, prepare, read_prepared
from .voxaug import Effect, StemEffects, VoxAug, VoxAugConfig

__all__ = [
    "CropConfig",
    "CropDataset",
    "CropSampler",
    "DataError",
    "Effect",
    "PreparedSong",
    "Song",
    "StemEffects",
    "VoxAug",
    "VoxAugConfig",
    "discover",
    "prepare",
    "read_prepared",
    "split_of",
]
