"""How long crops, large batches and high learning rates are at each step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import TrainingError


@dataclass(frozen=True)
class Phase:
    """A stretch of training with crops of one length.

    Attributes:
        until: optimizer step at which it ends; None in the last phase, which goes on to the end of training.
        frames: spectrogram frames of a crop.
        batch_size: crops of one process in one pass.
        accumulation: passes whose gradients are added up for one step.
    """

    until: int | None = None
    frames: int = 256
    batch_size: int = 4
    accumulation: int = 1


def check_phases(phases: Sequence[Phase]) -> None:
    """Raises TrainingError unless the phases follow each other and the last has no end."""
    ends = [phase.until for phase in phases]
    if not ends or ends[-1] is not None:
        raise TrainingError("data.phases: the last phase must have until: null")
    bounds = [0, *(end or 0 for end in ends[:-1])]
    if any(later <= earlier for earlier, later in pairwise(bounds)):
        raise TrainingError("data.phases: until must grow from phase to phase, and only the last may be null")
    if any(min(phase.frames, phase.batch_size, phase.accumulation) < 1 for phase in phases):
        raise TrainingError("data.phases: frames, batch_size and accumulation must be at least 1")


def phase_at(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that the optimizer step belongs to, counted from 0."""
    return next(phase for phase in phases if phase.until is None or step < phase.until)


def warmup_polynomial(steps: int, warmup: int, power: float, final: float) -> Callable[[int], float]:
    """Learning rate as a factor of its peak: linear from 0 over ``warmup`` steps, then polynomial to ``final``.

    With power 1 and final 0 it is the schedule of BERT (Devlin et al. 2018, appendix A.2).
    """

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        rest = max(0.0, 1 - (step - warmup) / max(1, steps - warmup))
        return final + (1 - final) * rest**power

    return factor
