"""Export to ONNX files and ``torch.export`` programs, both for any number of frames.

The family and configuration of the model are stored as metadata.
"""

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ModelError, OptionError
from ..files import whole
from ..layers import ConvolutionalEmbedding
from ..models import MaskModel, MaskModelConfig, SignalConfig, family_of
from .files import read_config, write_config

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
# The positional embedding halves the frames eight times: with fewer its smallest scale is a single frame, which
# tracing takes for a constant. A torch.export program then refuses fewer; ONNX keeps no such guard and needs none.
EMBEDDED_FRAMES = 257
TRACED_FRAMES = 288
CHECKED_FRAMES = (64, 321)
# Of the largest output. With fresh weights, PyTorch in float32 differs by 3e-4 from itself in float64 (the default's
# widths with attention everywhere, 321 frames); a graph that computes something else differs by far more.
TOLERANCE = 1e-3
INSTALL = "pip install 'frame-transformer[export]'"


class OnnxModel(MaskModel):
    """A model exported by :func:`export_model`, run by ONNX Runtime on the CPU.

    Raises:
        ModelError: ONNX Runtime is not installed, or the file was not written by :func:`export_model`.
    """

    def __init__(self, path: str | os.PathLike[str]):
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(f"{path}: ONNX Runtime is not installed: {INSTALL}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors are also raised
        try:
            session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no public base class of its errors
            raise ModelError(f"{path}: not an ONNX model that can be read: {str(error).splitlines()[0]}") from error
        try:
            config = read_config(session.get_modelmeta().custom_metadata_map)
            _check_signature(session, config.signal)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        super().__init__(config)
        self.path = path
        self._session = session

    def forward(self, magnitudes: Tensor) -> Tensor:
        """See :class:`MaskModel`. Raises ModelError if the graph does not return logits of the right shape."""
        self.check_shape(magnitudes)
        # The graph has a batch size of 1; only the number of frames is dynamic.
        examples = magnitudes.float().split(1)
        try:
            outputs = [self._session.run(["logits"], {"magnitudes": example.numpy()})[0] for example in examples]
        except Exception as error:  # as above
            raise ModelError(f"{self.path}: cannot be computed: {str(error).splitlines()[0]}") from error
        logits = torch.from_numpy(np.concatenate(outputs))
        shape = (len(magnitudes), self.config.signal.channels, *magnitudes.shape[2:])
        if logits.shape != shape or not logits.isfinite().all():
            raise ModelError(f"{self.path}: its outputs are no logits of a mask of the magnitudes")
        return logits


def _check_signature(session: Any, signal: SignalConfig) -> None:
    """Raises ModelError if the inputs or outputs of a graph differ from those of :func:`export_model`."""
    for name, values, channels in (
        ("magnitudes", session.get_inputs(), signal.inputs),
        ("logits", session.get_outputs(), signal.channels),
    ):
        found = [(value.name, value.type, value.shape[:3], len(value.shape)) for value in values]
        if found != [(name, "tensor(float)", [1, channels, signal.features], 4)] or isinstance(values[0].shape[3], int):
            raise ModelError(
                f"its graph does not take magnitudes of (1, {signal.inputs}, {signal.features}, frames) and return "
                f"logits of (1, {signal.channels}, {signal.features}, frames)"
            )


def export_model(model: MaskModel, path: str | os.PathLike[str], file_format: str = "onnx") -> float:
    """Exports a model for other runtimes if its outputs agree with PyTorch's. The file is written atomically.

    The model is moved to the CPU and set to eval mode.

    Args:
        file_format: ``"onnx"``, or ``"torch"`` for a ``torch.export`` program (.pt2). Both take ``magnitudes``,
            float32 (1, inputs, n_fft / 2, frames), any number of frames, and return ``logits`` (1, channels, ...);
            a torch program of a model with a positional embedding takes 257 frames or more.

    Returns:
        the largest difference from the model in PyTorch over its largest output, at numbers of frames that were not
        traced.

    Raises:
        OptionError: unknown format. ModelError: a package is missing, the model cannot be exported, its outputs differ,
        or the file cannot be written.
    """
    if file_format not in FORMATS:
        raise OptionError(f"unknown format {file_format!r}: use {' or '.join(FORMATS)}")
    if isinstance(model, OnnxModel):
        raise ModelError("the model is an ONNX file already")
    path = Path(path)
    if path.suffix != FORMATS[file_format]:
        raise OptionError(f"{path}: a file of format {file_format} needs the suffix {FORMATS[file_format]}")
    if file_format == "onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        raise ModelError(f"export to ONNX needs packages that are not installed: {INSTALL}")
    config = model.config
    model = model.cpu().eval()
    with _written_whole(path) as temporary:
        program = _trace(model, config)
        if file_format == "onnx":
            _save_onnx(program, temporary, write_config(config))
            exported: Callable[[Tensor], Tensor] = OnnxModel(temporary)
            fewest = 1
        else:
            torch.export.save(program, temporary, extra_files=write_config(config))
            exported = torch.export.load(temporary).module()
            embedded = any(isinstance(module, ConvolutionalEmbedding) for module in model.modules())
            fewest = EMBEDDED_FRAMES if embedded else 1
        difference = _difference(model, exported, [max(fewest, frames) for frames in CHECKED_FRAMES])
        if not difference <= TOLERANCE:
            raise ModelError(
                f"{path}: not written: the exported model differs from PyTorch by {difference:.1e} of its outputs, "
                f"more than {TOLERANCE:.0e}"
            )
    return difference


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    try:
        with whole(path) as temporary:
            yield temporary
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror or error}") from error


def _trace(model: MaskModel, config: MaskModelConfig) -> torch.export.ExportedProgram:
    example = torch.zeros(1, config.signal.inputs, config.signal.features, TRACED_FRAMES)
    try:
        with torch.no_grad():
            return torch.export.export(model, (example,), dynamic_shapes=({3: torch.export.Dim.DYNAMIC},))
    except Exception as error:  # the errors of tracing have no common base class
        raise ModelError(
            f"models of family {family_of(config)!r} with this configuration cannot be traced for any "
            f"number of frames: {str(error).strip().splitlines()[0]}"
        ) from error


def _save_onnx(program: torch.export.ExportedProgram, path: Path, metadata: dict[str, str]) -> None:
    import onnx

    try:
        with _quiet_exporter():
            converted = torch.onnx.export(
                program, input_names=["magnitudes"], output_names=["logits"], optimize=False, verbose=False
            )
        assert converted is not None
        proto = converted.model_proto
        onnx.helper.set_model_props(proto, metadata)
        onnx.save(proto, path)
    except OSError:
        raise
    except Exception as error:  # the errors of the converter and protobuf have no common base class
        raise ModelError(f"the model cannot be written as ONNX: {str(error).strip().splitlines()[0]}") from error


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences warnings of PyTorch's exporter about its own deprecations and about optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@torch.inference_mode()
def _difference(model: MaskModel, exported: Callable[[Tensor], Tensor], lengths: Sequence[int]) -> float:
    signal = model.config.signal
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for frames in lengths:
        x = torch.rand(1, signal.inputs, signal.features, frames, generator=generator)
        expected = model(x)
        worst = max(worst, ((exported(x) - expected).abs().max() / expected.abs().max()).item())
    return worst
