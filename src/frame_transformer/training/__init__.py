"""Training: stages as LightningModules, data and schedule. Requires the extra ``train``."""

from .adversarial import Adversarial
from .datamodule import TrainingData
from .losses import LossWeights
from .muon import Muon, MuonWithAdamW
from .pretraining import Corruption, Pretraining
from .schedule import Phase, Schedule
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
    "Schedule",
    "Stage",
    "Supervised",
    "TrainingData",
]
