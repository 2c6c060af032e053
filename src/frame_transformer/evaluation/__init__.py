"""Evaluation of separated stems: metrics, comparison of models and other tools, and reports."""

from .bss_eval import BSSEval, FrameRatios
from .metrics import bleedless_and_fullness, si_sdr, utterance_sdr
from .oracle import oracle_vocals
from .report import METRICS, Evaluation, SongScore
from .runner import BASELINES, evaluate

__all__ = [
    "BASELINES",
    "METRICS",
    "BSSEval",
    "Evaluation",
    "FrameRatios",
    "SongScore",
    "bleedless_and_fullness",
    "evaluate",
    "oracle_vocals",
    "si_sdr",
    "utterance_sdr",
]
