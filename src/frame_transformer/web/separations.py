"""Separates uploaded songs into files for the player and for download."""

import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from ..audio import FORMATS, AudioInfo
from ..checkpoints import list_models, load_model
from ..errors import ModelError, OptionError
from ..models import MaskModel
from ..separation import OutputOptions, SeparationOptions, Separator, separate_file
from .jobs import Job
from .schemas import Model, Result, SeparationRequest, Track
from .tracks import write_samples

MIXTURE = "mixture"
MEASURE_RATE, MEASURE_CHANNELS = 48_000, 2  # the reference for the limit in minutes
MODEL_RATE = 44_100
TTA_PASSES = 4


def formats() -> list[str]:
    """Names of formats, alone and with a bit depth; without one, stems keep the bit depth of their song."""
    depths = {name: [f"{name} {depth}" for depth in kind.codecs if depth] for name, kind in FORMATS.items()}
    return [choice for name, deep in depths.items() for choice in (name, *deep)]


class Separations:
    """Separates songs and keeps the most recently used models in memory.

    Args:
        models: names or files; None for all models known by name.
        device: as for :class:`Separator`.
        jobs: separations that run at the same time; they share the CPU threads.
        max_minutes: longest song, in minutes of stereo at 48 kHz.

    Raises:
        ModelError: a model that does not exist. OptionError: two models of the same name.
    """

    def __init__(self, models: Sequence[str] | None, device: str, jobs: int, max_minutes: int):
        known = {info.name: info for info in list_models()}
        chosen = models or tuple(known)
        for model in chosen:
            if model not in known and not Path(model).is_file():
                raise ModelError(f"unknown model {model!r}: it is neither a file nor one of {', '.join(known)}")
        self._files = {Path(model).stem: model for model in chosen}
        if len(self._files) < len(chosen):
            raise OptionError("two of the models have the same name: rename one of the files")
        self._device = device
        self._max_minutes = max_minutes
        self._threads = max(1, torch.get_num_threads() // jobs)
        self._loading = threading.Lock()
        self._loaded: dict[str, MaskModel] = {}

    def offered(self) -> list[Model]:
        """The available models, with the size of their downloads."""
        known = {info.name: info for info in list_models()}
        models = []
        for name in self._files:
            info = known.get(name)
            # Published checkpoints are float32.
            megabytes = info.parameters * 4 // 1_000_000 if info and not info.cached else 0
            models.append(Model(name=name, description=info.description if info else "", megabytes=megabytes))
        return models

    def check(self, request: SeparationRequest) -> None:
        """Raises OptionError for a model or format that the page does not offer."""
        for name in request.models:
            if name not in self._files:
                raise OptionError(f"unknown model {name!r}: use one of {', '.join(self._files)}")
        if request.format not in formats():
            raise OptionError(f"unknown audio format {request.format!r}: use one of {', '.join(formats())}")
        self._options(request, request.models)

    def _options(
        self, request: SeparationRequest, models: Sequence[str | MaskModel], stream: int | None = None
    ) -> SeparationOptions:
        return SeparationOptions(
            models=tuple(models),
            device=self._device,
            overlap=request.overlap,
            tta=request.tta,
            smoothing=request.smoothing,
            ensemble=request.ensemble,
            weights=None if request.weights is None else tuple(request.weights),
            stream=stream,
        )

    def check_size(self, name: str, info: AudioInfo, seconds: float) -> None:
        """Raises OptionError for a song that exceeds the limit of the page.

        The limit counts the samples of all channels at the higher of the song's and the model's sample rate, because
        memory and disk space depend on them.
        """
        samples = seconds * max(info.sample_rate, MODEL_RATE) * info.channels
        minutes = max(seconds, samples / (MEASURE_RATE * MEASURE_CHANNELS)) / 60
        if minutes > self._max_minutes:
            kind = f"{info.channels} channels at {info.sample_rate} Hz, as much as " if minutes * 60 > seconds else ""
            raise OptionError(
                f"{name}: {kind}{minutes:.0f} minutes are more than this page takes"
                f" ({self._max_minutes} minutes); the command separates songs of any length"
            )

    def _load(self, job: Job) -> list[MaskModel]:
        job.report("loading the model")
        names = job.request.models
        with self._loading:
            # Frees the memory of the old models before the new ones are loaded.
            self._loaded = {name: network for name, network in self._loaded.items() if name in names}
            for name in names:
                job.check()
                if name not in self._loaded:
                    self._loaded[name] = load_model(
                        self._files[name], lambda done, total: job.report("downloading the model", done, total)
                    )
            return [self._loaded[name] for name in names]

    def run(self, job: Job) -> Result:
        """Separates a song and prepares what the page plays. Raises FrameTransformerError and Cancelled."""
        request, info = job.request, job.info
        kind, _, depth = request.format.partition(" ")
        output = OutputOptions(
            job.folder,
            "{stem}.{ext}",
            tuple(request.stems),
            audio_format=kind,
            bit_depth=depth or None,
            images=True,
        )
        torch.set_num_threads(self._threads)  # applies to this thread only
        separator = Separator(self._options(request, self._load(job), info.stream))

        def report(done: int, total: int) -> None:
            self.check_size(job.name, info, total / info.sample_rate)
            if done:
                job.report("separating", done, total)
            else:
                job.report("reading the song")

        result = separate_file(separator, job.source, output, report)
        job.report("preparing the player")
        job.stems = {stem: result.outputs[stem] for stem in request.stems}
        tracks = []
        for name, path in {MIXTURE: job.source, **job.stems}.items():
            sound = job.folder / f"{name}.pcm"
            stream = info.stream if name == MIXTURE else None
            tracks.append(Track(name=name, samples=write_samples(path, sound, job.check, stream)))
            job.tracks |= {sound.name: sound, f"{name}.png": result.outputs[f"{name}.png"]}
        return Result(
            stems=request.stems,
            tracks=tracks,
            rate=info.sample_rate,
            seconds=result.seconds,
            elapsed=result.elapsed,
            warnings=[job.hide_paths(text) for text in result.warnings],
        )


def passes(request: SeparationRequest) -> int:
    """Passes of a network over the whole song."""
    return len(request.models) * (TTA_PASSES if request.tta else 1)


def stored_bytes(request: SeparationRequest, info: AudioInfo, seconds: float) -> int:
    """Upper bound of a separation's bytes on disk: stems, copies of them before scaling, and the player's tracks."""
    stems = len(request.stems)
    samples = seconds * info.sample_rate
    return round(samples * (info.channels * (4 + 4) * stems + 4 * (stems + 1)))
