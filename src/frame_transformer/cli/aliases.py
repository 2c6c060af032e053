"""Flags of Demucs and audio-separator: translated to ours, or refused with a hint."""

from collections.abc import Callable
from typing import Any

from ..errors import OptionError
from .common import Command


def _two_stems(value: str) -> list[str]:
    if value != "vocals":
        raise OptionError(f"--two-stems {value}: the stems are vocals and instrumental; leave the option out")
    return []


def _shifts(value: str) -> list[str]:
    return ["--tta"] if value.isdigit() and int(value) > 1 else []


FLAGS = {
    "--mp3": ["--format", "mp3"],
    "--flac": ["--format", "flac"],
    "--int24": ["--bit-depth", "24"],
    "--float32": ["--bit-depth", "32f"],
}
VALUES: dict[str, Callable[[str], list[str]]] = {
    "--name": lambda value: ["--model", value],
    "--model_filename": lambda value: ["--model", value],
    "--out": lambda value: ["--output", value],
    "--output_dir": lambda value: ["--output", value],
    "--output_format": lambda value: ["--format", value],
    "--output_bitrate": lambda value: ["--bitrate", value],
    "--mp3-bitrate": lambda value: ["--bitrate", value],
    "--clip-mode": lambda value: ["--clip", value],
    "--single_stem": lambda value: ["--stems", value.lower()],
    "--two-stems": _two_stems,
    "--shifts": _shifts,
}
HINTS = {
    "--segment": "the network's window is set in frames: --window FRAMES and --context FRAMES",
    "--no-split": "memory is bounded whatever the song's length; --window FRAMES sets the size of a pass",
    "--repo": "-n takes the path of a model file",
    "--model_file_dir": "the environment variable FRAME_TRANSFORMER_CACHE names the folder of downloaded models",
    "--list_models": "run frame-transformer models",
    "--list-models": "run frame-transformer models",
    "--mp3-preset": "--bitrate KBIT sets the quality of a lossy format",
    "--normalization": "--clip rescale, clamp or none says what happens beyond full scale",
    "--sample_rate": "stems have the sample rate of the song",
    "--use_autocast": "use --dtype float16 or bfloat16",
    "--other-method": "the stems are vocals and instrumental; both are written",
}


def translate(arguments: list[str]) -> list[str]:
    """Replaces flags of other tools by those of ``separate``.

    Raises:
        OptionError: a flag has no equivalent, or its value is missing.
    """
    ours: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*ours, argument, *rest]
        flag, equals, value = argument.partition("=")
        if flag in HINTS:
            raise OptionError(f"{flag} is not an option here: {HINTS[flag]}")
        if argument in FLAGS:
            ours += FLAGS[argument]
        elif flag in VALUES:
            if not equals and not rest:
                raise OptionError(f"{flag} needs a value")
            ours += VALUES[flag](value if equals else rest.pop(0))
        else:
            ours.append(argument)
    return ours


class TranslatedCommand(Command):
    """A command that also accepts the flags above."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Translates the command line before it is parsed."""
        return super().parse_args(ctx, translate(args))
