import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from frame_transformer.audio import AudioReader
from frame_transformer.checkpoints import OnnxModel, export_model, save_model, weights_digest
from frame_transformer.checkpoints import onnx as onnx_files
from frame_transformer.errors import ModelError, OptionError
from frame_transformer.models import (
    AsymUNetMCTConfig,
    SignalConfig,
    V1Config,
    V2bConfig,
    V3Config,
    WindowConfig,
    create_model,
)
from frame_transformer.separation import Separator

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
PAGE = Path(__file__).parent.parent.parent / "docs/export.md"


@pytest.fixture(scope="module")
def model():
    """The default model's kinds of layers, few of them."""
    torch.manual_seed(0)
    config = AsymUNetMCTConfig(
        SignalConfig(n_fft=64, hop_length=32, mid_side=True), WindowConfig(40, 20),
        bands=((16, 2), (16, 4)), widths=(4, 8), attention_maps=2, decoder_attention=False, heads=2, expansion=2.0,
        latent_layers=2, latent_expansion=1, positional_embedding=False, restart_latent_residual=False,
    )  # fmt: skip
    return create_model(config).eval()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    assert export_model(model, path) < 1e-4
    assert [file.name for file in path.parent.iterdir()] == ["tiny.onnx"]
    return path


def test_any_number_of_frames_and_examples(model, exported):
    onnx_model = OnnxModel(exported)
    assert onnx_model.config == model.config
    for batch, frames in ((1, 1), (2, 7), (1, 500)):
        x = torch.rand(batch, 4, 32, frames)
        with torch.inference_mode():
            torch.testing.assert_close(onnx_model(x), model(x), rtol=1e-4, atol=1e-4)


def test_an_exported_model_separates_like_its_source(model, exported, noise):
    song = noise(2, 10_000)
    expected = Separator(model, device="cpu").separate(song).vocals
    np.testing.assert_allclose(Separator(exported).separate(song).vocals, expected, atol=1e-5)
    np.testing.assert_allclose(Separator([exported, model]).separate(song).vocals, expected, atol=1e-5)
    with pytest.raises(OptionError, match="runs on the CPU in float32"):
        Separator(exported, dtype="bfloat16")


def test_a_loaded_onnx_model_is_known_by_its_file(exported):
    assert weights_digest(OnnxModel(exported)) == weights_digest(exported)


@pytest.mark.parametrize(("normalization", "pad_last"), [("song_peak", "true"), ("window_level", "false")])
def test_the_page_separates_as_the_package_does(exported, song, tmp_path, monkeypatch, normalization, pad_last):
    path = song()
    proto = onnx.load(exported)
    for entry in proto.metadata_props:
        entry.value = entry.value.replace("song_peak", normalization)
        entry.value = entry.value.replace('"pad_last": true', f'"pad_last": {pad_last}')
    exported = tmp_path / "default.onnx"
    onnx.save(proto, exported)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, np.ndarray] = {}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    exec(code, scope)
    np.testing.assert_array_equal(scope["song"], np.concatenate(list(AudioReader(path)), axis=1))
    expected = Separator(exported, overlap=0).separate(path)
    np.testing.assert_allclose(scope["vocals"], expected.vocals, atol=1e-5)
    np.testing.assert_allclose(scope["instrumental"], expected.instrumental, atol=1e-5)


def test_torch_program(model, tmp_path):
    export_model(model, tmp_path / "tiny.pt2", "torch")
    extra = {"family": "", "config": ""}
    program = torch.export.load(tmp_path / "tiny.pt2", extra_files=extra).module()
    assert extra["family"] == "asym_unet_mct" and '"n_fft": 64' in extra["config"]
    x = torch.rand(1, 4, 32, 77)
    torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=1e-4)


SMALL = {"signal": SignalConfig(n_fft=512, hop_length=256), "heads": 2}
TINY_UNET = AsymUNetMCTConfig(
    **SMALL, widths=(4, 8), attention_maps=2, expansion=8, latent_layers=2, latent_expansion=1,
)  # fmt: skip
FAMILIES = {
    "v1": V1Config(**SMALL, widths=(1, 2, 4, 6, 8, 10), expansion=1),
    "v2b": V2bConfig(**SMALL, widths=(1, 2, 4, 6, 8, 10), attention_maps=2, expansion=1),
    "v3": V3Config(**SMALL, channels=1, expansion=1, layers=2),
    "asym_unet_mct, attention maps and embedding": TINY_UNET,
    "asym_unet_mct, residual not restarted": replace(TINY_UNET, restart_latent_residual=False, compression=0.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["onnx", "torch"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name, file_format, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / f"model{onnx_files.FORMATS[file_format]}"
    assert export_model(create_model(FAMILIES[name]), path, file_format) < 1e-4
    assert path.stat().st_size > 10_000


def test_a_model_that_differs_is_not_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_files, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_model(model, tmp_path / "tiny.pt2", "torch")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_with_the_name_of_the_file(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(ModelError, match=rf"^{re.escape(str(tmp_path))}/tiny.onnx: cannot be written: No space left"):
        export_model(model, tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_says_how_close_the_file_is_and_nothing_else(model, run, tmp_path):
    save_model(model, tmp_path / "tiny.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, errors = run("export", "tiny.safetensors")
    assert (code, out) == (0, "tiny.onnx\n")
    assert re.fullmatch(r"largest difference from PyTorch: \S+ of the largest output\n", errors)


def test_bad_files_and_options_are_one_line(model, run, tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not an ONNX model"):
        OnnxModel(tmp_path / "bad.onnx")
    save_model(model, tmp_path / "tiny.safetensors")
    for arguments, message in (
        (("--format", "tflite"), "unknown format 'tflite'"),
        (("-o", "tiny.bin"), "needs the suffix .onnx"),
        (("-o", "bad.onnx/tiny.onnx"), "cannot be written"),
    ):
        code, _, errors = run("export", "tiny.safetensors", *arguments)
        assert code and message in errors and errors.count("\n") == 1
