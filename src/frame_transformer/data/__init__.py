"""Training data: catalogues of songs, their prepared form, random crops and VoxAug."""

from frame_transformer.data.catalogue import DataError, Song, discover, split_of
from frame_transformer.data.crops import CropConfig, CropDataset, CropSampler
from frame_transformer.data.prepared import PreparedSong, prepare, read_prepared
from frame_transformer.data.voxaug import Effect, StemEffects, VoxAug, VoxAugConfig

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
