"""Training: stages as LightningModules, their data and schedule; needs the extra ``train``."""

from .datamodule import ScheduledData
from .losses import LossWeights
from .schedule import Phase
from .stage import Stage
from .supervised import Supervised

__all__ = ["LossWeights", "Phase", "ScheduledData", "Stage", "Supervised"]
