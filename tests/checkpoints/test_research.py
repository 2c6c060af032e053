"""Original checkpoints load and give the output of the research code that made the golden vectors."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from frame_transformer.checkpoints import import_state_dict
from frame_transformer.errors import ModelError

GOLDEN = sorted((Path(__file__).parent.parent / "data" / "golden").glob("*.npz"))


def fill(key, shape, seed):
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()) + seed))
    n = rng.standard_normal(int(np.prod(shape))).astype(np.float32).reshape(shape)
    leaf = key.split(".")[-1]
    if "norm" in key and leaf == "weight":
        return 1 + 0.1 * n
    if leaf.startswith("bias"):
        return 0.1 * n
    fan = shape[-1] if len(shape) in (2, 3) else int(np.prod(shape[1:]))
    return n / np.float32(np.sqrt(fan))


def golden(path):
    file = np.load(path)
    seed, frames = int(file["seed"]), int(file["frames"])
    config = json.loads(str(file["config"]))
    spec = json.loads(str(file["state_spec"]))
    state = {}
    for key, entry in spec.items():
        shape, kind = (entry["shape"], entry["kind"]) if isinstance(entry, dict) else entry
        value = fill(key, shape, seed) if kind == "parameter" else np.zeros(shape, np.float32)
        state[key] = torch.from_numpy(np.asarray(value, np.float32))
    rng = np.random.Generator(np.random.PCG64(seed))
    x = rng.random((1, 2, config["n_fft"] // 2, frames), dtype=np.float32) ** 2
    return config, state, torch.from_numpy(x), torch.from_numpy(file["output"])


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def vectors(request):
    return golden(request.param)


def test_output_of_the_research_code(vectors):
    _, state, x, expected = vectors
    model = import_state_dict(state)
    assert not model.training
    assert (model(x) - expected).norm() / expected.norm() <= 1e-4


def test_hyperparameters_are_read_off_the_shapes(vectors):
    config, state, _, _ = vectors
    ours = import_state_dict(state).config
    assert (ours.signal.n_fft, ours.heads, ours.signal.channels) == (
        config["n_fft"],
        config["num_heads"],
        config["in_channels"],
    )
    assert ours.expansion == config["expansion"]
    assert getattr(ours, "layers", None) == config.get("num_layers")
    assert getattr(ours, "latent_layers", None) == config.get("num_bridge_layers")


def test_prefix_of_distributed_data_parallel(vectors):
    _, state, x, expected = vectors
    model = import_state_dict({f"module.{key}": value for key, value in state.items()})
    assert (model(x) - expected).norm() / expected.norm() <= 1e-4


def test_missing_and_unexpected_keys_are_named(vectors):
    _, state, _, _ = vectors
    weights = [key for key in state if not key.endswith((".freqs", ".pe"))]
    removed = weights[-1]
    incomplete = {key: value for key, value in state.items() if key != removed}
    with pytest.raises(ModelError, match=removed.replace(".", r"\.")):
        import_state_dict(incomplete)
    with pytest.raises(ModelError, match=r"unexpected keys spare\.weight"):
        import_state_dict(state | {"spare.weight": torch.zeros(1)})


def test_foreign_files_are_refused():
    with pytest.raises(ModelError, match=r"known family.*conv\.weight"):
        import_state_dict({"conv.weight": torch.zeros(3)})
    with pytest.raises(ModelError, match="holds a int"):
        import_state_dict({"epoch": 3})
