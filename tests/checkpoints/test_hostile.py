"""Files that lie: whatever is in them, loading ends in a model or in a ModelError, soon and in little memory."""

import copy
import io
import json
import math
import pickle
import time
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes

from frame_transformer.checkpoints import load_model
from frame_transformer.checkpoints.files import write_config
from frame_transformer.checkpoints.research import original_key
from frame_transformer.errors import ModelError
from frame_transformer.models import (
    AsymUNetMCTConfig,
    SignalConfig,
    V1Config,
    V2bConfig,
    V3Config,
    WindowConfig,
    create_model,
)

CASES = Path(__file__).parent.parent / "data/checkpoints"
MEMORY, SECONDS = 1 << 30, 5.0
SIGNAL = SignalConfig(n_fft=64, hop_length=32)
CONFIGS = {
    "v1": V1Config(SIGNAL, WindowConfig(4, 2), widths=(1, 1, 2, 1, 1, 1), heads=1, expansion=1),
    "asym_unet_mct": AsymUNetMCTConfig(
        SIGNAL, WindowConfig(4, 2), widths=(2, 4), attention_maps=(1,), heads=1, expansion=2.0, latent_layers=1,
        bands=((16, 1), (16, 2)), band_channels=2, positional_embedding=False,
    ),
}  # fmt: skip


def model_of(family: str):
    torch.manual_seed(0)
    return create_model(CONFIGS[family])


def original_state(model) -> dict[str, torch.Tensor]:
    """The state dict of the original's V1 with the weights of ours."""
    state = {original_key(key, V1Config): value.detach() for key, value in model.state_dict().items()}
    state["out"] = state["out"][:, :, 0, 0]
    return state | {"enc0_transformer.attn.rotary_embedding.freqs": torch.zeros(model.config.signal.features // 2)}


SAFETENSORS = {
    family: (dict(model_of(family).state_dict()), write_config(config)) for family, config in CONFIGS.items()
}
ORIGINAL = original_state(model_of("v1"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([0, -1, 1 << 30, 1 << 64, 10**400, 1e308, "NaN", "64", [], {}, [[[]]]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
TENSORS = st.sampled_from(
    [
        torch.full((1,), float("nan")),
        torch.full((1,), float("inf")),
        torch.zeros(0),
        torch.zeros(0, 1 << 40),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1, dtype=torch.bool),
        torch.zeros(1, dtype=torch.complex64),
        torch.zeros(1).expand(1 << 20, 1 << 20),
        torch.zeros((), dtype=torch.float64),
        torch.zeros(3, 3, 3, 3, 3, 3),
    ]
)
MEMORY_OF = Path("/proc/self/status")


def resident(line: str) -> int:
    return int(next(row for row in MEMORY_OF.read_text().splitlines() if row.startswith(line)).split()[1]) * 1024


def load(path: Path) -> None:
    """Loads and tries a file. ModelError is the only error; memory and time are bounded."""
    measured = MEMORY_OF.exists()
    if measured:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = resident("VmRSS")
    started = time.process_time()
    try:
        model = load_model(path)
        signal = model.config.signal
        with torch.inference_mode():
            assert model(torch.zeros(1, signal.channels, signal.features, 3)).shape[1] == signal.channels
    except ModelError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1500
    assert time.process_time() - started < SECONDS
    if measured:
        assert resident("VmHWM") - before < MEMORY


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """Bytes overwritten, cut off or put in."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, min(len(out), 4000)))
        some = draw(st.binary(max_size=8))
        kind = draw(st.sampled_from(["overwrite", "insert", "cut"]))
        if kind == "cut":
            del out[draw(st.integers(0, len(out))) :]
        else:
            out[place : place + (len(some) if kind == "overwrite" else 0)] = some
    return bytes(out)


KINDS = ["field", "field", "inner field", "inner field", "config", "family", "tensor", "drop", "fill", "bytes"]


@st.composite
def lying_safetensors(draw) -> bytes:
    family = draw(st.sampled_from(sorted(SAFETENSORS)))
    state, metadata = dict(SAFETENSORS[family][0]), dict(SAFETENSORS[family][1])
    fields = json.loads(metadata["config"])
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    for kind in kinds:
        match kind:
            case "field":
                fields[draw(st.sampled_from([*fields, "unknown"]))] = draw(JSON)
            case "inner field" if isinstance(inner := fields[draw(st.sampled_from(["signal", "window"]))], dict):
                inner[draw(st.sampled_from([*inner, "unknown"]))] = draw(JSON)
            case "family":
                metadata["family"] = draw(st.sampled_from(["", "v1", "v2b", "v3", "asym_unet_mct", "V1"]))
            case "tensor":
                value = draw(TENSORS.filter(lambda value: value.numel() < 1 << 30))
                state[draw(st.sampled_from([*state, "spare"]))] = value.clone()
            case "drop":
                state.pop(draw(st.sampled_from(sorted(state))))
            case "fill":
                key = draw(st.sampled_from(sorted(state)))
                number = draw(st.sampled_from([0.0, 1e38, float("nan"), float("-inf")]))
                state[key] = torch.full_like(state[key], number)
    metadata["config"] = json.dumps(fields)
    if "config" in kinds:
        broken = st.sampled_from(["", "{", "[" * 90_000, "9" * 5000, " " * 200_000, "\x00"])
        metadata["config"] = draw(broken | JSON.map(json.dumps))
    data = safetensors_bytes(state, metadata)
    return draw(damaged(data)) if "bytes" in kinds else data


@st.composite
def lying_pickle(draw) -> bytes:
    state: dict = dict(ORIGINAL)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from([*state, "spare", "module.", "enc99999999.x", "out.weight"]))
        match draw(st.sampled_from(["tensor", "value", "key", "shape", "drop", "special"])):
            case "tensor":
                state[key] = draw(TENSORS)
            case "value":
                state[key] = draw(JSON.filter(lambda value: value != 10**400))
            case "key":
                state[draw(st.none() | st.integers() | st.tuples(st.integers()))] = torch.zeros(2)
            case "shape" if isinstance(state.get(key), torch.Tensor) and state[key].layout is torch.strided:
                shape = [draw(st.sampled_from([size, size, 0, 1, 1 << 20])) for size in state[key].shape]
                assume(math.prod(shape) < 1 << 63)  # PyTorch counts no more
                state[key] = torch.zeros(1).expand(shape)
            case "drop":
                state.pop(key, None)
            case "special":
                state[key] = draw(
                    st.sampled_from(
                        [
                            torch.zeros(2, 2).to_sparse(),
                            torch.zeros(2, 2, device="meta"),
                            torch.nn.Parameter(torch.ones(2)),
                            torch.quantize_per_tensor(torch.zeros(2), 0.1, 0, torch.qint8),
                        ]
                    )
                )
    whole = draw(st.sampled_from([state, state, state, [state], {"state_dict": state}, {}, 7, None, "x" * 1000]))
    buffer = io.BytesIO()
    torch.save(whole, buffer, _use_new_zipfile_serialization=draw(st.booleans()))
    data = buffer.getvalue()
    return draw(damaged(data)) if draw(st.booleans()) else data


HUNDREDS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@HUNDREDS
@given(lying_safetensors())
def test_safetensors(tmp_path, data):
    (tmp_path / "model.safetensors").write_bytes(data)
    load(tmp_path / "model.safetensors")


@HUNDREDS
@given(lying_pickle())
def test_checkpoints(tmp_path, data):
    (tmp_path / "model.pth").write_bytes(data)
    load(tmp_path / "model.pth")


LIES = [
    ("window", {"frames": 1 << 30}, "frames must be between"),
    ("window", [], "window cannot be"),
    ("signal", {"n_fft": 0}, "n_fft must be between"),
    ("signal", {"n_fft": "64"}, "n_fft cannot be"),
    ("signal", {"hop_length": 65, "n_fft": 64}, "hop_length must be between"),
    ("signal", {"channels": None}, "channels cannot be"),
    ("widths", [1, True], "widths cannot be"),
    ("widths", [1 << 30], "widths must be between"),
    ("widths", [1] * 40, "cannot be halved"),
    ("heads", 0, "heads must be between"),
    ("dropout", float("nan"), "dropout must be between"),
    ("layers", 12, "unknown field 'layers'"),
]


@pytest.mark.parametrize(("field", "value", "message"), LIES)
def test_configurations_are_checked_before_anything_is_built(tmp_path, field, value, message):
    state, metadata = SAFETENSORS["v1"]
    config = json.dumps(json.loads(metadata["config"]) | {field: value})
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(state, metadata | {"config": config}))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_cases(name):
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    with pytest.raises(ModelError):
        load_model(CASES / name)
    load(CASES / name)


def test_honest_files_load(tmp_path):
    for family, (state, metadata) in SAFETENSORS.items():
        (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(state, metadata))
        assert load_model(tmp_path / "model.safetensors").config == CONFIGS[family]
    torch.save(ORIGINAL, tmp_path / "new.pth")
    torch.save(ORIGINAL, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("new.pth", "old.pth"):
        weights = load_model(tmp_path / name).state_dict()
        assert all(torch.equal(weights[key], value) for key, value in model_of("v1").state_dict().items())


def test_a_small_archive_does_not_unpack_to_gigabytes(tmp_path):
    torch.save(ORIGINAL | {"out": torch.zeros(64 << 20)}, tmp_path / "whole.pth")
    with zipfile.ZipFile(tmp_path / "whole.pth") as whole, zipfile.ZipFile(tmp_path / "model.pth", "w") as small:
        for entry in whole.infolist():
            small.writestr(entry.filename, whole.read(entry), zipfile.ZIP_DEFLATED)
    (tmp_path / "whole.pth").unlink()
    with pytest.raises(ModelError, match="packed into a smaller file"):
        load_model(tmp_path / "model.pth")


def test_numbers_repeated_without_end_are_no_weights(tmp_path):
    """Each tensor has the shape that the others ask for, and one number in the file."""
    huge = V1Config(SignalConfig(n_fft=1 << 15, hop_length=1 << 14), widths=(1,) * 6, heads=1, expansion=1024)
    with torch.device("meta"):
        shapes = original_state(create_model(huge))
    torch.save({key: torch.zeros(1).expand(value.shape) for key, value in shapes.items()}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="larger than what it stores"):
        load_model(tmp_path / "model.pth")
    load(tmp_path / "model.pth")


def test_pickles_run_no_code(tmp_path):
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    for number, harm in enumerate((Harm(), {"out": Harm()})):
        (tmp_path / f"{number}.pth").write_bytes(pickle.dumps(harm))
        torch.save(harm, tmp_path / f"{number}.pt")
        for suffix in ("pth", "pt"):
            with pytest.raises(ModelError):
                load_model(tmp_path / f"{number}.{suffix}")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_must_be_finite(tmp_path, number):
    state, metadata = copy.deepcopy(SAFETENSORS["v1"])
    state["out.weight"][0, 0] = number
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(state, metadata))
    with pytest.raises(ModelError, match=r"out\.weight.*finite"):
        load_model(tmp_path / "model.safetensors")


def graph(inputs, outputs, metadata, node="Identity") -> bytes:
    """A graph of one node from its inputs to its first output; inputs and outputs as (name, type, shape)."""
    onnx = pytest.importorskip("onnx")
    values = [[onnx.helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
    nodes = [onnx.helper.make_node(node, [inputs[0][0]], [outputs[0][0]])]
    nodes += [onnx.helper.make_node("Identity", [inputs[0][0]], [name]) for name, *_ in outputs[1:]]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "lie", *values), ir_version=8)
    model.opset_import[0].version = 17
    onnx.helper.set_model_props(model, metadata)
    return model.SerializeToString()


FLOAT, DOUBLE = 1, 11
ENDS = st.tuples(
    st.sampled_from(["magnitudes", "logits", "x"]),
    st.sampled_from([FLOAT, FLOAT, FLOAT, DOUBLE]),
    st.sampled_from(
        [[1, 2, 32, "frames"], [1, 2, 32, "frames"], [1, 2, 32, 3], ["b", 2, 32, "f"], [1, 1, 32, "f"], [], [4]]
    ),
)
METADATA = st.sampled_from(
    [write_config(CONFIGS["v1"])] * 4
    + [write_config(config()) for config in (V2bConfig, V3Config)]
    + [{}, {"family": "v1"}, {"family": "v1", "config": "null"}, {"family": "v1", "config": "[]"}]
)


@settings(HUNDREDS, max_examples=100)
@given(
    st.lists(ENDS, min_size=1, max_size=2), st.lists(ENDS, min_size=1, max_size=2), METADATA, st.booleans(), st.data()
)
def test_onnx(tmp_path, inputs, outputs, metadata, damage, data):
    pytest.importorskip("onnxruntime")
    content = graph(inputs, outputs, metadata)
    (tmp_path / "model.onnx").write_bytes(data.draw(damaged(content)) if damage else content)
    load(tmp_path / "model.onnx")


@pytest.mark.parametrize(("node", "message"), [("Log", "no logits"), ("Shape", "not an ONNX model|no logits|take")])
def test_graphs_that_compute_something_else(tmp_path, node, message):
    pytest.importorskip("onnxruntime")
    shape = [1, 2, 32, "frames"]
    content = graph([("magnitudes", FLOAT, shape)], [("logits", FLOAT, shape)], write_config(CONFIGS["v1"]), node)
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path / "model.onnx")(torch.full((1, 2, 32, 4), -1.0))
