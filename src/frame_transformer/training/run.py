"""A run from the command line: configuration, output folder, resuming, and the finished model."""

import logging
import re
import warnings
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import torch
from jsonargparse import set_parsing_settings
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from ..errors import DataError, OptionError, TrainingError
from ..models import MaskModelConfig
from .callbacks import Accumulation, Excerpts, SongValidation
from .checkpoint import AtomicCheckpointIO, Checkpoints, to_resume
from .datamodule import TrainingData
from .schedule import Schedule
from .sharding import register
from .stage import Stage
from .terminal import ProgressLine, say

CONFIGS = Path(__file__).parent / "configs"
BASE = CONFIGS / "base.yaml"
NETWORKS_BASE = CONFIGS / "published/base.yaml"
INCLUDED = {
    path.stem: path
    for folder in (CONFIGS, NETWORKS_BASE.parent)
    for path in folder.glob("*.yaml")
    if path not in (BASE, NETWORKS_BASE)
}
# Messages of the backends of torch.distributed after another process has ended.
LOST_PEER = re.compile(r"Connection (closed|reset|refused)|gloo|NCCL|heartbeat", re.IGNORECASE)


def config_arguments(name_or_path: str) -> list[str]:
    """``--config`` with a file in place of a name, after the one that all published networks share.

    Raises:
        TrainingError: it is neither a file nor the name of an included configuration.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if name_or_path not in INCLUDED:
            raise TrainingError(f"--config {name_or_path}: neither a file nor one of {', '.join(sorted(INCLUDED))}")
        path = INCLUDED[name_or_path]
    files = [NETWORKS_BASE, path] if path.resolve().parent == NETWORKS_BASE.resolve().parent else [path]
    return [argument for file in files for argument in ("--config", str(file))]


class TrainCLI(LightningCLI):
    """The arguments of ``frame-transformer train``: those of LightningCLI without subcommands, and those of the run."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--output", type=str, help="Folder of the run: checkpoints, curves, the finished model.")
        parser.add_argument("--resume", type=str, default="never", help="auto (the latest checkpoint), never, or one.")
        parser.add_argument("--save_every", type=int, default=500, help="Steps from one checkpoint to the next.")
        parser.add_argument("--keep", type=int, default=2, help="How many of the latest checkpoints to keep.")
        parser.add_argument("--max_minutes", type=float | None, help="Length of the training, all its runs together.")
        parser.add_argument("--validation_songs", type=Path | None, help="Folder of whole songs to validate on.")
        parser.add_argument(
            "--validate_every_minutes", type=float, default=20.0, help="From one validation on songs to the next."
        )
        parser.add_class_arguments(Schedule, "schedule")
        parser.link_arguments("max_minutes", "schedule.max_minutes")
        parser.link_arguments("model", "data.task", lambda stage: stage.task, apply_on="instantiate")
        parser.link_arguments("model", "data.hop_length", lambda stage: stage.network.signal.hop_length, "instantiate")

    def before_instantiate_classes(self) -> None:
        self.output = Path(self.config.output)
        self.checkpoint = to_resume(self.config.resume, self.output)
        self.full_config = self.parser.dump(self.config, skip_unset=False)
        for logger in self.config.trainer.logger if isinstance(self.config.trainer.logger, list) else []:
            logger.init_args.save_dir = str(self.output / logger.init_args.save_dir)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config, schedule = self.config_init.trainer, self.config_init.schedule
        self.checkpoints = Checkpoints(self.output, self.config.save_every, self.config.keep)
        callbacks: list[Callback] = [Accumulation(), Excerpts(), self.checkpoints]
        if config.enable_progress_bar is not False:
            callbacks.append(ProgressLine(schedule))
        if self.config.validation_songs is not None:
            folder, minutes = self.config.validation_songs, self.config.validate_every_minutes
            callbacks.append(SongValidation(folder, minutes, schedule))
        kwargs["callbacks"] = [*(config.callbacks or []), schedule, *callbacks]
        kwargs["plugins"] = [*(config.plugins or []), AtomicCheckpointIO()]
        return super().instantiate_trainer(default_root_dir=str(self.output), **kwargs)


def expand(arguments: list[str]) -> list[str]:
    """Replaces names of configurations by their files and adds the default values of ``--config`` and ``--output``."""
    out, configs = [], []
    items = iter(arguments)
    for item in items:
        if item == "--config" or item.startswith("--config="):
            configs.append(item.partition("=")[2] if "=" in item else next(items, ""))
            out += config_arguments(configs[-1])
        else:
            out.append(item)
    if not configs:
        configs = ["default"]
        out = [*config_arguments("default"), *out]
    # First, so that an --output among the arguments wins.
    return [f"--output=runs/{Path(configs[-1]).stem}", *out]


def parse(arguments: list[str]) -> TrainCLI:
    """Creates all parts of a run from the arguments of ``frame-transformer train``.

    Raises:
        OptionError: arguments do not parse or do not fit together. TrainingError: the run cannot be continued or would
        overwrite another. DataError: the validation songs cannot be found. ModelError: weights cannot be loaded.
    """
    quieten()
    register()
    set_parsing_settings(subclasses_enabled=[MaskModelConfig])
    try:
        return TrainCLI(
            Stage,
            TrainingData,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={
                "default_config_files": [str(BASE)],
                "prog": "frame-transformer train",
                "exit_on_error": False,
            },
            subclass_mode_model=True,
            args=expand(arguments),
            run=False,
            auto_configure_optimizers=False,
        )
    except (ArgumentError, ValueError, TypeError, MisconfigurationException) as error:
        raise OptionError(readable(str(error))) from error


def quieten() -> None:
    """Silences messages and warnings of Lightning, except errors."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "jsonargparse", "torch"):
        warnings.filterwarnings("ignore", module=rf"{module}\.")


def readable(message: str) -> str:
    """Reduces an error message of jsonargparse to one line: the full name of the option, and the problem."""
    option = ".".join(re.findall(r'[Kk]ey "([\w.]+)"', message))
    noise = (
        r"Parser key|Does not validate|Subtypes:|Errors:|Given value|Problem with given|Expected a path but"
        r"|Expected a <class 'NoneType'>|Validation failed"
    )
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    reasons = [line for line in lines if line and not re.match(noise, line)]
    text = "; ".join(dict.fromkeys(reasons)) or " ".join(message.split())
    text = (
        re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text).replace("typing.", "").replace("Expected a ", "expected ")
    )
    text = text.replace(". Got value: ", ", got ")
    if option and text.startswith("unrecognized arguments: --"):
        return text.replace(": --", f": --{option}.")
    return f"--{option}: {text}" if option else text


def train(arguments: list[str]) -> Path:
    """Trains with the arguments of ``frame-transformer train`` and returns the path of the finished model.

    Raises:
        FrameTransformerError: of :func:`parse` and :func:`run`.
    """
    return run(parse(arguments))


def run(cli: TrainCLI) -> Path:
    """Trains, writes the finished model to the folder of the run and returns its path.

    Raises:
        DataError: training data is missing or damaged. TrainingError: the loss is not finite, a checkpoint cannot be
        written, or another process was lost. ModelError: the model cannot be written.
    """
    cli.output.mkdir(parents=True, exist_ok=True)
    if cli.trainer.is_global_zero:
        (cli.output / "config.yaml").write_text(cli.full_config, encoding="utf-8")
    torch.set_flush_denormal(True)  # processors compute with them many times slower
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.checkpoint, weights_only=True)
    except DataError as error:
        # A worker's error arrives with the worker's traceback; its last line is the error itself.
        last = str(error).strip().splitlines()[-1]
        raise DataError(last.removeprefix("frame_transformer.errors.DataError: ")) from error
    except RuntimeError as error:
        if cli.trainer.world_size > 1 and LOST_PEER.search(str(error)):
            raise TrainingError(
                f"step {cli.trainer.global_step}: another process of this run has ended or cannot be reached; its own"
                " message says why. Start all of them again with --resume auto"
            ) from error
        raise
    finally:
        torch.set_flush_denormal(False)
    if cli.checkpoints.stop_asked:
        say(f"stopped at step {cli.trainer.global_step}: the same command with --resume auto continues")
    result = cli.output / "model.safetensors"
    cli.model.save(result)
    return result
