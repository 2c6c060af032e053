"""Training data: catalogues of songs, prepared songs, random crops and VoxAug augmentation."""

from .catalogue import Role, Song, discover, gather, roles_in, split_of
from .crops import CropConfig, CropDataset, MusicDataset, crop_numbers
from .index import FileRecord, Index, read_index, scan
from .prepared import PreparedSong, PrepareReport, prepare, prepared_folder, read_prepared
from .voxaug import Effect, MixEffects, StemEffects, VoxAug, VoxAugConfig, without_effects

__all__ = [
    "CropConfig",
    "CropDataset",
    "Effect",
    "FileRecord",
    "Index",
    "MixEffects",
    "MusicDataset",
    "PrepareReport",
    "PreparedSong",
    "Role",
    "Song",
    "StemEffects",
    "VoxAug",
    "VoxAugConfig",
    "crop_numbers",
    "discover",
    "gather",
    "prepare",
    "prepared_folder",
    "read_index",
    "read_prepared",
    "roles_in",
    "scan",
    "split_of",
    "without_effects",
]
