"""From a song to its stems."""

from .separator import Separation, Separator, StemBlock, separate

__all__ = ["Separation", "Separator", "StemBlock", "separate"]
