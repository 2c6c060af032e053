"""The networks alone: one window of every family, ours against the plain formulation with the same weights."""

import time

import torch

from frame_transformer.models import AsymUNetMCTConfig, SpectrogramConfig, V1Config, V2bConfig, V3Config, create_model
from tests.reference import reference_forward

from .measuring import ChildFailedError, Result, in_child, interleaved

PUBLISHED: dict[str, SpectrogramConfig] = {
    "v1": V1Config(),
    "v2b": V2bConfig(),
    "v3": V3Config(),
    "asym_unet_mct": AsymUNetMCTConfig(),
    # Small enough for a smoke test; no published model.
    "tiny": V1Config(n_fft=512, hop_length=256, channels=1, heads=2, expansion=1),
}
FRAMES = {"v1": (256, 2048), "v2b": (256, 2048), "v3": (256, 2048), "asym_unet_mct": (256, 1024)}


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


def seconds_of(config: SpectrogramConfig, frames: int) -> float:
    return frames * config.hop_length / config.sample_rate


def one_pass(name: str, frames: int, plain: bool, threads: int) -> Result:
    """Time of a single pass in this process; its peak memory is what is wanted."""
    torch.set_num_threads(threads)
    model = random_model(name)
    x = torch.rand(1, model.config.in_channels, model.config.features, frames)
    started = time.perf_counter()
    with torch.inference_mode():
        _ = reference_forward(model.config, model.state_dict(), x) if plain else model(x)
    return {"seconds": time.perf_counter() - started}


def compare(name: str, frames: int, threads: int, repeats: int) -> Result:
    """Ours and plain in one process in turn, and how far apart their outputs are."""
    torch.set_num_threads(threads)
    model = random_model(name)
    state = model.state_dict()
    x = torch.rand(1, model.config.in_channels, model.config.features, frames)
    outputs: dict[str, torch.Tensor] = {}

    def ours() -> None:
        outputs["ours"] = model(x)

    def plain() -> None:
        outputs["plain"] = reference_forward(model.config, state, x)

    with torch.inference_mode():
        seconds = interleaved({"ours": ours, "plain": plain}, repeats, warm=frames <= 512)
        error = (outputs["ours"] - outputs["plain"]).norm() / outputs["plain"].norm()
    length = seconds_of(model.config, frames)
    return {
        "rtf": seconds["ours"] / length,
        "plain_rtf": seconds["plain"] / length,
        "speed_up": seconds["plain"] / seconds["ours"],
        "relative_error": float(error),
    }


def run(quick: bool, threads: int) -> list[Result]:
    """Real-time factor, ratio to the plain formulation and peak memory of every family at its windows.

    The plain form of V2b at 2048 frames needs 21 GB and is left out; ``plain_peak_mb`` of the others is measured.
    """
    rows = []
    for name, lengths in ({"tiny": (64,)} if quick else FRAMES).items():
        for frames in lengths:
            row: Result = {"model": name, "frames": frames, "threads": threads}
            try:
                row["peak_mb"] = in_child(
                    "benchmarks.networks:one_pass", name=name, frames=frames, plain=False, threads=threads
                )["peak_mb"]
                if (name, frames) != ("v2b", 2048):
                    row["plain_peak_mb"] = in_child(
                        "benchmarks.networks:one_pass", name=name, frames=frames, plain=True, threads=threads
                    )["peak_mb"]
                    compared = in_child(
                        "benchmarks.networks:compare", name=name, frames=frames, threads=threads, repeats=1 + 2 * quick
                    )
                    row |= {key: compared[key] for key in ("rtf", "plain_rtf", "speed_up", "relative_error")}
                else:
                    alone = in_child(
                        "benchmarks.networks:one_pass", name=name, frames=frames, plain=False, threads=threads
                    )
                    row["rtf"] = alone["seconds"] / seconds_of(PUBLISHED[name], frames)
            except ChildFailedError as error:
                row["failed"] = str(error)
            rows.append(row)
    return rows
