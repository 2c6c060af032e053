"""Files in and out, and the streaming transform against torch.stft."""

import io
import wave

import numpy as np
import pytest
import torch

from frame_transformer.audio import AudioReader, AudioWriter, Resampler, StreamingISTFT, StreamingSTFT, decode
from frame_transformer.errors import AudioError, OptionError

from .files import write_floats


@pytest.mark.parametrize(
    ("name", "options"), [("a.wav", {"bit_depth": "32f"}), ("a.flac", {"bit_depth": "24"}), ("a.wav", {})]
)
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_lossless_round_trip(song, noise, name, options, channels):
    path = song(name, channels, 5_001, 48_000, **options)
    samples, rate = decode(path)
    assert rate == 48_000
    assert samples.shape == (channels, 5_001)
    tolerance = {"32f": 0, "24": 1e-6}.get(options.get("bit_depth"), 1e-4)
    assert np.abs(samples - noise(channels, 5_001)).max() <= tolerance


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.ogg", "a.opus"])
def test_lossy_formats_keep_the_sound(tmp_path, name):
    time = np.arange(44_100) / 44_100
    tone = np.stack([np.sin(2 * np.pi * 440 * time)] * 2).astype(np.float32) * 0.5
    with AudioWriter(tmp_path / name, 44_100, 2, bitrate=128_000, tags={"title": "Ünïcode"}) as writer:
        writer.write(tone)
    reader = AudioReader(tmp_path / name)
    samples = np.concatenate(list(reader), axis=1)
    assert abs(samples.shape[1] / reader.info.sample_rate - 1) < 0.06
    spectrum = np.abs(np.fft.rfft(samples[0]))
    assert abs(np.argmax(spectrum) * reader.info.sample_rate / samples.shape[1] - 440) < 2
    assert reader.info.tags["title"] == "Ünïcode"
    again = np.concatenate(list(reader), axis=1)
    assert np.array_equal(samples, again)


def test_file_objects(song):
    path = song()
    expected, _ = decode(path)
    samples, _ = decode(io.BytesIO(path.read_bytes()))
    assert np.array_equal(samples, expected)


def bad_file(folder, kind, song):
    path = folder / f"{kind}.wav"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path = path.with_suffix(".mp3")
        path.write_text("these are words, not sound\n" * 200)
    elif kind == "zero-length":
        with wave.open(str(path), "wb") as file:
            file.setparams((2, 2, 44_100, 0, "NONE", ""))
    elif kind == "nan":
        samples = np.zeros((2, 1000), np.float32)
        samples[1, 441] = np.nan
        write_floats(path, samples, 44_100)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "file is empty"),
        ("text", "cannot be read as audio|is not audio|no audio"),
        ("zero-length", "holds no audio samples"),
        ("nan", r"NaN or infinite samples, the first at 0\.010 s"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, song, kind, message):
    path = bad_file(tmp_path, kind, song)
    with pytest.raises(AudioError, match=message) as error:
        decode(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_file_is_read_with_a_warning(song):
    path = song("cut.flac", samples=200_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    reader = AudioReader(path)
    samples = sum(block.shape[1] for block in reader)
    assert 50_000 < samples < 150_000
    assert "truncated" in " ".join(reader.warnings)


def test_an_error_leaves_no_file(tmp_path, noise):
    with pytest.raises(KeyboardInterrupt), AudioWriter(tmp_path / "a.wav", 44_100, 2) as writer:
        writer.write(noise(2, 1000))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places_and_formats(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match="cannot be written"):
        AudioWriter(tmp_path / "file" / "a.wav", 44_100, 2)
    with pytest.raises(AudioError, match="cannot be written"):
        AudioWriter(tmp_path / "a.wav", 44_100, 9)
    with pytest.raises(OptionError, match="unknown audio format 'xyz'"):
        AudioWriter(tmp_path / "a.xyz", 44_100, 2)
    with pytest.raises(OptionError, match="no bit depth"):
        AudioWriter(tmp_path / "a.mp3", 44_100, 2, bit_depth="24")


def test_full_disk(tmp_path, noise, monkeypatch):
    writer = AudioWriter(tmp_path / "a.wav", 44_100, 2)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_container", type("Full", (), {"mux": staticmethod(full), "close": lambda _: None})())
    with pytest.raises(AudioError, match="disk is full"), writer:
        writer.write(noise(2, 1000))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("samples", [1025, 4096, 4097, 5119, 20_000])
@pytest.mark.parametrize("block", [100, 3000, 50_000])
def test_streaming_stft_is_torch_stft_and_inverts(noise, samples, block):
    x = torch.from_numpy(noise(2, samples))
    stft, istft = StreamingSTFT(2048, 1024), StreamingISTFT(2048, 1024)
    spectrum = torch.cat([*(stft.push(part) for part in x.split(block, dim=1)), stft.finish()], dim=2)
    expected = torch.stft(x, 2048, 1024, window=torch.hann_window(2048), return_complex=True)
    assert stft.song_frames == expected.shape[2]
    torch.testing.assert_close(spectrum[:, :, : expected.shape[2]], expected, rtol=1e-4, atol=1e-4)
    y = torch.cat([istft.push(part) for part in spectrum.split(3, dim=2)], dim=1)
    torch.testing.assert_close(y[:, :samples], x, rtol=0, atol=1e-5)


def test_resampler_keeps_a_tone(noise):
    time = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)[None]
    resampler = Resampler(48_000, 44_100, 1)
    parts = [resampler.process(tone[:, :20_000]), resampler.process(tone[:, 20_000:], last=True)]
    out = np.concatenate(parts, axis=1)
    assert out.shape == (1, 44_100)
    expected = np.sin(2 * np.pi * 1000 * np.arange(44_100) / 44_100)
    assert np.abs(out[0, 500:-500] - expected[500:-500]).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 2])
def test_blocks_may_be_views(tmp_path, noise, channels):
    block = noise(2, 4_000)[:channels, ::2]
    with AudioWriter(tmp_path / "a.wav", 44_100, channels, bit_depth="32f") as writer:
        writer.write(block)
    assert np.array_equal(decode(tmp_path / "a.wav")[0], block)
