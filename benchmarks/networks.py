"""The networks alone: one window of every family, ours against the plain formulation with the same weights."""

import torch

from frame_transformer.models import (
    AsymUNetMCTConfig,
    MaskModelConfig,
    SignalConfig,
    V1Config,
    V2bConfig,
    V3Config,
    create_model,
)
from frame_transformer.separation.device import keep_freed_memory
from reference import reference_forward

from .measuring import ChildFailedError, Result, in_child, interleaved, peak_mb, return_freed_memory, timed

PUBLISHED: dict[str, MaskModelConfig] = {
    "v1": V1Config(),
    "v2b": V2bConfig(),
    "v3": V3Config(),
    "asym_unet_mct": AsymUNetMCTConfig(),
    # Small enough for a smoke test; no published model.
    "tiny": V1Config(SignalConfig(n_fft=512, hop_length=256), widths=(1, 2, 4, 6, 8, 10), heads=2, expansion=1),
}
FRAMES = {"v1": (256, 2048), "v2b": (256, 1024, 2048), "v3": (256, 2048), "asym_unet_mct": (256, 1024)}


def random_model(name: str) -> torch.nn.Module:
    """A published configuration with random weights, made once in memory."""
    with torch.device("meta"):
        model = create_model(PUBLISHED[name])
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for key, parameter in model.named_parameters():
        # Uniform within 1/√fan-in, norms the identity: what matters is that no activation overflows or dies.
        if "norm" in key.split(".")[-2]:
            torch.nn.init.constant_(parameter, float(key.endswith("weight")))
        else:
            bound = (parameter[0].numel() if parameter.ndim == 4 else parameter.shape[-1]) ** -0.5
            torch.nn.init.uniform_(parameter, -bound, bound)
    return model.requires_grad_(False).eval()


def compare(name: str, frames: int, threads: int, repeats: int) -> Result:
    """Ours and plain in this process: the memory of one pass of each, then both in turn, and how far apart they are.

    Ours runs as in separation, with freed memory kept, and plain as research code does, without. Ours comes first, so
    that its peak is its own; plain's holds our output, too. Where plain needs more memory than there is,
    ``plain_failed`` says so and ours is timed alone. Without ``repeats`` the first passes are timed.
    """
    torch.set_num_threads(threads)
    model = random_model(name)
    state = model.state_dict()
    x = torch.rand(1, model.config.signal.inputs, model.config.signal.features, frames)
    outputs: dict[str, torch.Tensor] = {}

    def ours() -> None:
        outputs["ours"] = model(x)

    def plain() -> None:
        outputs["plain"] = reference_forward(model.config, state, x)

    works = {"ours": ours, "plain": plain}
    allocators = {"ours": keep_freed_memory, "plain": return_freed_memory}
    row: Result = {}
    seconds = {}
    with torch.inference_mode():
        keep_freed_memory()
        seconds["ours"] = timed(ours)
        row["peak_mb"] = peak_mb()
        return_freed_memory()
        try:
            seconds["plain"] = timed(plain)
            row["plain_peak_mb"] = peak_mb()
        except RuntimeError as error:  # of PyTorch's allocator
            row["plain_failed"] = str(error).splitlines()[0]
        if repeats:
            seconds = interleaved({key: works[key] for key in seconds}, repeats, lambda which: allocators[which]())
    length = frames * model.config.signal.hop_length / model.config.signal.sample_rate
    row["rtf"], row["processor_s"] = seconds["ours"].wall / length, seconds["ours"].processor
    if "plain" in seconds:
        row["speed_up"] = seconds["plain"].wall / seconds["ours"].wall
        row["processor_speed_up"] = seconds["plain"].processor / seconds["ours"].processor
        row["relative_error"] = float((outputs["ours"] - outputs["plain"]).norm() / outputs["plain"].norm())
    return row


def run(quick: bool, threads: int) -> list[Result]:
    """Real-time factor, ratio to the plain formulation and peak memory of every family at its windows."""
    rows = []
    for name, lengths in ({"tiny": (64,)} if quick else FRAMES).items():
        for frames in lengths:
            row: Result = {"name": name, "frames": frames, "threads": threads}
            try:
                # A long window takes minutes: its first pass is its measurement.
                row |= in_child("benchmarks.networks:compare", **row, repeats=3 if frames <= 256 else 0)
            except ChildFailedError as error:
                row["failed"] = str(error)
            rows.append(row)
    return rows
