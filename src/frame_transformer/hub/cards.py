"""The named models and where their files are."""

import os
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True)
class ModelCard:
    """A named model.

    Attributes:
        filename: file name in the cache, or in the package where ``url`` is None.
        url: public mega.nz link with its key, or ``None`` for a file of the package.
        sha256: hexadecimal digest of the file, if it is known.
    """

    name: str
    family: str
    parameters: int
    description: str
    source: str
    licence: str
    filename: str
    url: str | None = None
    sha256: str | None = None


CARDS = {
    card.name: card
    for card in (
        ModelCard(
            "default",
            "asym_unet_mct",
            4_079_932,
            "small AsymUNetMCT, trained on a CPU",
            "in the package",
            "MIT",
            "default.safetensors",
        ),
        ModelCard(
            "v1",
            "v1",
            205_945_008,
            "the published V1 checkpoint",
            "mega.nz",
            "see the original research code",
            "v1.pth",
            "https://mega.nz/file/C5pGXYYR#ndHuj-tYWtttoj8Y4QqAkAruvZDYcQONkTHfZoOyFaQ",
        ),
        ModelCard(
            "v2b",
            "v2b",
            255_797_690,
            "the published V2b checkpoint",
            "mega.nz",
            "see the original research code",
            "v2b.pth",
            "https://mega.nz/file/a843wbTQ#E319mlp5qjsyky6PRp-zikou-YtWb9TVpbtHGaVh2AA",
        ),
    )
}


def cache_folder() -> Path:
    """The folder of downloaded models: ``$FRAME_TRANSFORMER_CACHE``, else the user's cache folder."""
    override = os.environ.get("FRAME_TRANSFORMER_CACHE")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return user_cache_path("frame_transformer")


def card_path(card: ModelCard) -> Path:
    """The path of the model file, which may not be downloaded yet."""
    return WEIGHTS / card.filename if card.url is None else cache_folder() / card.filename


def is_cached(card: ModelCard) -> bool:
    """Whether the model file is on this machine."""
    return card_path(card).is_file()
