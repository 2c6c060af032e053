"""Errors meant for the user: one line that says what is wrong with which file and what to do."""


class FrameTransformerError(Exception):
    """Base class of the package's errors. The command prints them without a traceback."""


class AudioError(FrameTransformerError):
    """An audio file cannot be read or written."""


class ModelError(FrameTransformerError):
    """A model name, configuration or checkpoint cannot be used."""


class DownloadError(FrameTransformerError):
    """A model file cannot be downloaded, or differs from the published one."""


class OptionError(FrameTransformerError):
    """Options contradict each other or are out of range."""


class DataError(FrameTransformerError):
    """Training data cannot be found, read or used."""


class TrainingError(FrameTransformerError):
    """A training run cannot start or go on."""


def explain(error: Exception, subject: object, smaller: str) -> str:
    """One line about an unexpected error while processing ``subject``.

    ``smaller`` is what to try if there was not enough memory.
    """
    reason = " ".join(str(error).split())
    # PyTorch raises its own error on a GPU, and a plain RuntimeError on the CPU.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in reason:
        return f"{subject}: not enough memory; try {smaller}"
    return f"{subject}: {type(error).__name__}: {reason[:200] or 'no reason given'} (-v shows where)"


class FrameTransformerWarning(UserWarning):
    """Valid options that are probably a mistake. The command prints the warning in one line."""
