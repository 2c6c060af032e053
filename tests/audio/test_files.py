"""Lengths, tags, covers, damaged input, refused output: the promises of audio/ about real files."""

import errno
import io
import os
import resource
import signal
import stat
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frame_transformer.audio import (
    FORMATS,
    AudioReader,
    AudioWriter,
    Resampler,
    VideoWriter,
    decode,
    probe,
    remix,
    resample,
    resampled_length,
)
from frame_transformer.errors import AudioError, OptionError

from .files import encode_with, write_floats

LENGTH = 10_001  # no multiple of any codec's frame


def picture(kind: str = "JPEG", size: tuple[int, int] = (33, 21)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 10)).save(buffer, kind)
    return buffer.getvalue()


def tones(channels: int, samples: int, rate: int) -> np.ndarray:
    """A tone of its own in every channel: 60 Hz, 80 Hz, ... (all below the cut-off of a surround bass channel)."""
    frequencies = 60 + 20 * np.arange(channels)[:, None]
    return (0.3 * np.sin(2 * np.pi * frequencies * np.arange(samples) / rate)).astype(np.float32)


# Lengths and channels


@pytest.mark.parametrize("name", [f"a.{name}" for name in FORMATS])
@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1), (8_000, 1)])
def test_every_format_gives_back_the_length_it_was_given(song, name, rate, channels):
    path = song(name, channels, LENGTH, rate)
    reader = AudioReader(path)
    first, second = (np.concatenate(list(reader), axis=1) for _ in range(2))
    assert first.shape == (channels, resampled_length(LENGTH, rate, reader.info.sample_rate))
    assert np.array_equal(first, second)
    assert reader.warnings == []


@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.opus"])
def test_lossy_formats_are_aligned_to_the_sample(tmp_path, name):
    rate = 48_000
    noise = np.random.default_rng(1).standard_normal((1, rate)).astype(np.float32)
    smooth = np.apply_along_axis(np.convolve, 1, noise, np.hanning(33), "same").astype(np.float32) * 0.02
    with AudioWriter(tmp_path / name, rate, 1, bitrate=128_000) as writer:
        writer.write(smooth)
    decoded, _ = decode(tmp_path / name)
    lag = np.argmax(np.correlate(decoded[0], smooth[0, 1000:40_000], "valid")) - 1000
    assert lag == 0


@pytest.mark.parametrize("name", [f"a.{name}" for name in FORMATS])
@pytest.mark.parametrize("channels", range(1, 9))
def test_channels_keep_their_places(tmp_path, name, channels):
    rate = 48_000
    if channels not in FORMATS[name[2:]].channels:
        with pytest.raises(AudioError, match=rf"holds .* channels, not {channels}; try wav or flac"):
            AudioWriter(tmp_path / name, rate, channels)
        assert list(tmp_path.iterdir()) == []
        return
    with AudioWriter(tmp_path / name, rate, channels) as writer:
        writer.write(tones(channels, rate, rate))
    decoded, _ = decode(tmp_path / name)
    peaks = np.abs(np.fft.rfft(decoded[:, :rate])).argmax(axis=1)
    assert peaks.tolist() == [60 + 20 * channel for channel in range(channels)]


@pytest.mark.parametrize(
    "codec",
    ["pcm_u8", "pcm_s16be", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "flac", "alac", "pcm_mulaw"],
)
def test_any_sample_format_decodes_to_full_scale(tmp_path, codec):
    x = tones(2, LENGTH, 44_100)
    container = {"alac": "ipod", "flac": "flac"}.get(codec, "mov" if codec != "pcm_u8" else "wav")
    path = encode_with(tmp_path / "song", codec, x, 44_100, "stereo", container=container)
    decoded, rate = decode(path)
    tolerance = {"pcm_u8": 0.006, "pcm_mulaw": 0.02}.get(codec, 2e-5)
    assert rate == 44_100
    assert decoded.shape == x.shape
    assert np.abs(decoded - x).max() < tolerance


def test_wma_decodes_to_what_ffmpeg_gives(tmp_path):
    path = encode_with(tmp_path / "a.wma", "wmav2", tones(2, LENGTH, 44_100), 44_100, "stereo", container="asf")
    with av.open(str(path)) as container:
        expected = np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)
    assert np.abs(expected).max() > 0.2
    assert np.array_equal(decode(path)[0], expected)


def test_float_files_are_not_clipped(song, tmp_path):
    with AudioWriter(tmp_path / "a.wav", 44_100, 1, bit_depth="32f") as writer:
        writer.write(np.full((1, 100), 1.75, np.float32))
    assert decode(tmp_path / "a.wav")[0].max() == 1.75


def test_blocks_have_the_size_asked_for(song):
    sizes = [block.shape for block in AudioReader(song(samples=LENGTH), block_size=3000)]
    assert sizes == [(2, 3000)] * 3 + [(2, 1001)]


def test_video_gives_its_first_sound(tmp_path):
    x = tones(2, 3 * 48_000, 48_000)
    with VideoWriter(tmp_path / "a.mp4", 48_000, 2, cover=picture(size=(500, 500))) as writer:
        writer.write(x[:, :20_000])
        writer.write(x[:, 20_000:])
    decoded, rate = decode(tmp_path / "a.mp4")
    assert (decoded.shape, rate) == (x.shape, 48_000)
    with av.open(str(tmp_path / "a.mp4")) as container:
        shown = list(container.decode(video=0))
    assert [frame.time for frame in shown] == [0, 1, 2]
    frames = [frame.to_ndarray(format="rgb24") for frame in shown]
    assert frames[0].shape == (720, 1280, 3)
    assert np.abs(frames[0][360, 640].astype(int) - (200, 30, 10)).max() < 12  # the cover, in the middle
    assert frames[0][0, 0].max() < 40  # dark beside it
    with pytest.raises(OptionError):
        VideoWriter(tmp_path / "a.avi", 48_000, 2)


def test_names_are_names(song):
    decoded, _ = decode(song("concat:日本語 – ünï#%20?.wav", samples=LENGTH))
    assert decoded.shape == (2, LENGTH)


def test_a_playlist_opens_nothing_else(song, tmp_path):
    target = song("secret.wav")
    listing = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
    (tmp_path / "list.m3u8").write_text(listing)
    with pytest.raises(AudioError):
        decode(tmp_path / "list.m3u8")


# Tags and covers


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.m4a", "a.ogg", "a.opus", "a.wav"])
def test_tags_and_cover_survive(song, name, kind):
    tags = {"title": "Tïtle – 日本", "artist": "Somebody", "album": "Album"}
    info = probe(song(name, tags=tags, cover=picture(kind), samples=LENGTH))
    assert info.tags == tags
    assert info.cover == (None if name == "a.wav" else picture(kind))
    assert decode(song(name, tags=info.tags, cover=info.cover, samples=LENGTH))[0].shape[1] >= LENGTH


def test_other_pictures_become_jpeg_and_broken_ones_are_left_out(song):
    assert Image.open(io.BytesIO(probe(song("a.mp3", cover=picture("BMP"))).cover)).format == "JPEG"
    assert probe(song("b.mp3", cover=b"no picture")).cover is None


# Damaged input


def test_truncated_files_are_read_as_far_as_they_go(song):
    for name in ("a.mp3", "a.wav", "a.flac", "a.opus"):
        path = song(name, samples=200_000)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        reader = AudioReader(path)
        assert 80_000 < sum(block.shape[1] for block in reader) < 120_000
        if name in ("a.mp3", "a.flac"):  # the length FFmpeg tells of the others is that of what is there
            assert any("truncated" in warning for warning in reader.warnings), name


def test_damage_in_the_middle_costs_little(song):
    path = song("a.mp3", samples=200_000)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    path.write_bytes(data)
    reader = AudioReader(path)
    assert sum(block.shape[1] for block in reader) > 150_000


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_named_by_their_second(song, tmp_path, value):
    x = np.zeros((2, 100_000), np.float32)
    x[1, 88_200] = value
    write_floats(tmp_path / "a.wav", x, 44_100)
    with pytest.raises(AudioError, match=r"a\.wav: holds NaN or infinite samples, the first at 2\.000 s"):
        decode(tmp_path / "a.wav")


def test_nothing_of_the_file_decodes(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8_000, 0, "NONE", ""))
    for function in (decode, lambda path: list(AudioReader(path))):
        with pytest.raises(AudioError, match="holds no audio samples"):
            function(tmp_path / "a.wav")
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(AudioError) as error:
        decode(tmp_path / "noise.mp3")
    assert "noise.mp3" in str(error.value)


def test_a_picture_is_no_song(tmp_path):
    (tmp_path / "a.mp3").write_bytes(picture())
    with pytest.raises(AudioError, match=r"no audio stream|cannot be read as audio"):
        probe(tmp_path / "a.mp3")


# Refused output


def test_a_name_too_long_is_known_at_once(tmp_path):
    with pytest.raises(AudioError, match="too long for the file system") as error:
        AudioWriter(tmp_path / ("é" * 200 + ".wav"), 44_100, 2)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    longest = tmp_path / ("n" * 251 + ".wav")  # 255 bytes: all the file system takes
    with AudioWriter(longest, 44_100, 1) as writer:
        writer.write(np.zeros((1, 10), np.float32))
    assert longest.is_file()


@pytest.mark.parametrize(("code", "words"), [(errno.EACCES, "no permission"), (errno.EROFS, "read-only")])
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, code, words):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=f"{words}.*another output folder"):
        AudioWriter(tmp_path / "a.wav", 44_100, 2)


def test_a_folder_or_a_file_in_the_way(tmp_path):
    (tmp_path / "a.wav").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match="a folder of that name exists"):
        AudioWriter(tmp_path / "a.wav", 44_100, 2)
    with pytest.raises(AudioError, match="cannot be written"):
        AudioWriter(tmp_path / "file" / "b.wav", 44_100, 2)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("samples", [100, 200_000])
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a", "a.opus"])
def test_a_disk_that_is_really_full(tmp_path, noise, monkeypatch, name, samples):
    monkeypatch.setattr(Path, "open", lambda path, mode: open("/dev/full", "wb"))  # noqa: SIM115
    with (
        pytest.raises(AudioError, match=rf"{name}: cannot be written: the disk is full"),
        AudioWriter(tmp_path / name, 44_100, 2) as writer,
    ):
        writer.write(noise(2, samples))
    assert list(tmp_path.iterdir()) == []


def test_a_limit_hit_while_writing_leaves_the_old_file(tmp_path, noise):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(AudioError, match="cannot be written"), AudioWriter(path, 44_100, 2) as writer:
            writer.write(noise(2, 200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]
    assert path.read_bytes() == b"old"


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path, noise):
    path = tmp_path / "a.flac"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), AudioWriter(path, 44_100, 2) as writer:
        writer.write(noise(2, 100_000))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    with AudioWriter(path, 44_100, 2) as writer:
        writer.write(noise(2, 1000))
        assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.flac"]
    assert decode(path)[0].shape == (2, 1000)


def test_outputs_have_the_permissions_of_other_files(song, tmp_path):
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(song().stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("name", [f"a.{name}" for name in FORMATS])
@pytest.mark.parametrize("rate", [22_050, 32_000, 96_000, 192_000])
def test_rates_a_format_cannot_hold_are_resampled(song, name, rate):
    decoded, held = decode(song(name, 2, LENGTH, rate))
    assert decoded.shape[1] == resampled_length(LENGTH, rate, held)
    assert held == rate or (FORMATS[name[2:]].rates and rate not in FORMATS[name[2:]].rates)


# Resampling and remixing


@settings(max_examples=60, deadline=None)
@given(
    rates=st.sampled_from([(44_100, 48_000), (48_000, 44_100), (8_000, 44_100), (44_100, 8_000), (96_000, 44_100)]),
    cuts=st.lists(st.integers(0, 3000), min_size=1, max_size=6),
)
def test_a_stream_resamples_to_the_same_in_any_blocks(rates, cuts):
    x = np.random.default_rng(sum(cuts)).standard_normal((2, sum(cuts))).astype(np.float32)
    stream = Resampler(*rates, 2)
    blocks = np.split(x, np.cumsum(cuts)[:-1], axis=1)
    parts = [stream.process(block, last=i == len(blocks) - 1) for i, block in enumerate(blocks)]
    joined = np.concatenate(parts, axis=1)
    assert joined.shape == (2, resampled_length(sum(cuts), *rates))
    assert np.abs(joined - resample(x, *rates)).max(initial=0) < 1e-5


def test_decode_to_another_rate_and_channel_count(song):
    path = song("a.wav", 1, 48_000, 48_000, bit_depth="32f")
    x, rate = decode(path, sample_rate=44_100, channels=2)
    assert (x.shape, rate) == ((2, 44_100), 44_100)
    assert np.array_equal(x[0], x[1])
    assert np.abs(x[:1] - resample(decode(path)[0], 48_000, 44_100)).max() < 1e-5


def test_remix(noise):
    x = noise(2, 100)
    assert np.allclose(remix(x, 1), x.mean(axis=0, keepdims=True))
    assert remix(x, 2) is x
    surround = np.zeros((6, 100), np.float32)
    surround[2] = 0.5  # the centre goes to both sides alike
    folded = remix(surround, 2)
    assert folded.shape == (2, 100)
    assert np.allclose(folded[0], folded[1])
    assert folded[0].min() > 0.05
    with pytest.raises(AudioError, match="1 to 8"):
        remix(noise(9, 10), 2)
