"""Errors meant for the user: one line that says what is wrong with which file and what to do."""


class FrameTransformerError(Exception):
    """Base of every error this package raises on purpose; the command prints it without a traceback."""


class AudioError(FrameTransformerError):
    """An audio file cannot be read or written."""


class ModelError(FrameTransformerError):
    """A model name, configuration or checkpoint cannot be used."""


class DownloadError(FrameTransformerError):
    """A model file cannot be downloaded, or what arrived is not what was published."""


class OptionError(FrameTransformerError):
    """Options contradict each other or are out of range."""


class DataError(FrameTransformerError):
    """Training data cannot be found, read or used."""


class TrainingError(FrameTransformerError):
    """A training run cannot start or go on."""


def explain(error: Exception, subject: object, smaller: str) -> str:
    """One line about an error that nobody foresaw, met in the work on ``subject``.

    ``smaller`` says what needs less memory, should that have been missing.
    """
    reason = " ".join(str(error).split())
    # PyTorch's own errors of missing memory: that of a GPU, and a bare RuntimeError on the CPU.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in reason:
        return f"{subject}: not enough memory; try {smaller}"
    return f"{subject}: {type(error).__name__}: {reason[:200] or 'no reason given'} (-v shows where)"


class FrameTransformerWarning(UserWarning):
    """Options that work and are probably not meant; the command prints it in one line."""
