"""What stands for a song in memory: the right stems, or one line that says what to do."""

import io

import numpy as np
import pytest
import torch

from frame_transformer import Separator
from frame_transformer.errors import AudioError


@pytest.fixture(scope="module")
def separator(tiny_model):
    return Separator(tiny_model, device="cpu")


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"), [("int8", 128, 0), ("uint8", 128, 128), ("int16", 2**15, 0), ("int32", 2**31, 0)]
)
def test_the_full_scale_of_integers_becomes_one(separator, noise, dtype, scale, offset):
    integers = (noise(2, 20_000) * scale + offset).round().astype(dtype)
    floats = ((integers.astype(np.float64) - offset) / scale).astype(np.float32)
    stems, expected = separator.separate(integers), separator.separate(floats)
    np.testing.assert_allclose(stems.vocals, expected.vocals, atol=1e-7)
    np.testing.assert_allclose(stems.vocals + stems.instrumental, floats, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_tensors_of_any_float_type(separator, noise, dtype):
    tensor = torch.from_numpy(noise(2, 20_000)).to(dtype).requires_grad_()
    stems = separator.separate(tensor)
    assert np.array_equal(stems.vocals, separator.separate(tensor.detach().float().numpy()).vocals)


def test_integers_of_a_tensor_are_scaled_too(separator, noise):
    integers = (noise(1, 9_000) * 2**15).round().astype(np.int16)
    assert np.array_equal(separator.separate(torch.from_numpy(integers)).vocals, separator.separate(integers).vocals)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((132_300, 2), np.float32), r"got \(132300, 2\): pass samples.T"),
        (np.zeros(44_100, np.float32), r"got \(44100,\): pass samples\[None\]"),
        (np.zeros((1, 2, 44_100), np.float32), r"expected an array \(channels, samples\), got \(1, 2, 44100\)"),
        (np.zeros((2, 0), np.float32), r"the array is empty: \(2, 0\)"),
        (np.zeros((2, 100), np.int64), "type int64 have no known full scale: divide by it"),
        (np.zeros((2, 100), np.complex64), "type complex64"),
        (np.full((2, 100), np.nan, np.float32), "NaN or infinite"),
        (np.full((2, 100), -np.inf), "NaN or infinite"),
        (np.full((2, 100), 1e37, np.float32), "beyond ±1e30"),
        (np.full((2, 100), 1e300), "beyond ±1e30"),
        ([[0.0, 0.1]], "expected a path or a binary file, got list"),
        (b"RIFF", "got bytes; io.BytesIO reads bytes"),
        (io.StringIO("RIFF"), "is opened as text; open it in binary mode"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_song_is_refused_in_one_line(separator, source, message):
    with pytest.raises(AudioError, match=message) as error:
        separator.separate(source)
    assert "\n" not in str(error.value)


def test_a_file_object_that_cannot_seek_is_refused(separator):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    with pytest.raises(AudioError, match="as a pipe; save it to a file first"):
        separator.separate(Pipe(b"RIFF"))


@pytest.mark.parametrize("rate", [0, -44_100, 44_100.5, 10**9])
def test_absurd_sample_rates_are_refused(separator, noise, rate):
    with pytest.raises(AudioError, match="sample rate"):
        separator.separate(noise(2, 1_000), rate)
