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
