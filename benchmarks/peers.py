"""The default model beside other networks and engines: ``python -m benchmarks.peers``.

Processor time of one thread for a second of sound that the network reads, all in one process in turn. Speed only: the
others have random weights, in the sizes in common use. Needs the packages of the
extra ``export``, and ``demucs`` and ``bs-roformer`` beside ours; what is not installed is left out.
"""

import argparse
import functools
import json
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

from frame_transformer.checkpoints import export_model, load_model
from frame_transformer.separation.device import keep_freed_memory

from .__main__ import show
from .measuring import Result, interleaved

SAMPLE_RATE = 44_100
# The sizes in common use; the packages' own defaults are smaller or larger.
HTDEMUCS = {"sources": ["drums", "bass", "other", "vocals"], "bottom_channels": 512, "segment": 7.8}
BS_ROFORMER = {
    "dim": 512,
    "depth": 12,
    "stereo": True,
    "time_transformer_depth": 1,
    "freq_transformer_depth": 1,
    "stft_hop_length": 441,
    "num_residual_streams": 1,
}
BS_ROFORMER_SECONDS = 8.0


def networks(folder: Path) -> dict[str, tuple[torch.nn.Module, torch.Tensor, float]]:
    """By name: the network, a random input of its own length, and how many seconds that is."""
    model = load_model("default")
    config = model.config
    frames = config.window.frames + 2 * config.window.context
    magnitudes = torch.rand(1, config.signal.channels, config.signal.features, frames)
    seconds = frames * config.signal.hop_length / config.signal.sample_rate
    found = {"default": (model, magnitudes, seconds)}
    if find_spec("onnxruntime") and find_spec("onnxscript"):
        export_model(model, folder / "default.onnx")
        found["default, engine onnx"] = (load_model(folder / "default.onnx"), magnitudes, seconds)
    if find_spec("demucs"):
        from demucs.htdemucs import HTDemucs

        demucs = HTDemucs(**HTDEMUCS)
        found["demucs (HTDemucs)"] = (demucs, torch.randn(1, 2, int(demucs.segment * SAMPLE_RATE)), demucs.segment)
    if find_spec("bs_roformer"):
        from bs_roformer import BSRoformer

        samples = int(BS_ROFORMER_SECONDS * SAMPLE_RATE)
        found["bs-roformer"] = (BSRoformer(**BS_ROFORMER), torch.randn(1, 2, samples), BS_ROFORMER_SECONDS)
    return found


def measure(repeats: int) -> list[Result]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        found = networks(Path(folder))
        works: dict[str, Callable[[], object]] = {
            name: functools.partial(network.eval(), x) for name, (network, x, _) in found.items()
        }
        for work in works.values():
            work()
        taken = interleaved(works, repeats, before=lambda name: None)
    rates = {name: taken[name].processor / seconds for name, (_, _, seconds) in found.items()}
    return [
        {
            "network": name,
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "seconds_read": round(seconds, 2),
            "processor_s_per_s": rates[name],
            "ratio": rates[name] / rates["default"],
        }
        for name, (network, _, seconds) in found.items()
    ]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="passes of each network; the median counts")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args(argv)
    rows = measure(options.repeats)
    show("peers", rows, Console())
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
