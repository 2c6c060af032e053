"""Training: stages as LightningModules, their data and schedule; needs the extra ``train``."""

from .adversarial import Adversarial
from .datamodule import ScheduledData
from .losses import LossWeights
from .muon import Muon, MuonWithAdamW
from .pretraining import Corruption, Pretraining
from .schedule import Phase
from .stage import Stage
from .supervised import Supervised

__all__ = [
    "Adversarial",
    "Corruption",
    "LossWeights",
    "Muon",
    "MuonWithAdamW",
    "Phase",
    "Pretraining",
    "ScheduledData",
    "Stage",
    "Supervised",
]
