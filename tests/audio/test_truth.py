"""What a file holds is what comes out: streams, chained parts, gaps, truncation, faults, headers, covers."""

import io
import re
import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from frame_transformer.audio import AudioReader, AudioWriter, VideoWriter, audio_suffixes, decode, kept_bit_depth, probe
from frame_transformer.audio.covers import open_cover
from frame_transformer.errors import AudioError

from .files import encode_with, write_floats

CASES = Path(__file__).parent.parent / "data" / "audio"


def read(source, **options) -> tuple[np.ndarray, list[str]]:
    reader = AudioReader(source, **options)
    samples = np.concatenate(list(reader), axis=1)
    return samples, reader.warnings


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples).mean()))


def pitch(samples: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


# Streams


def test_the_default_stream_is_read_and_others_can_be_chosen():
    path = CASES / "two.mkv"
    first, second = (read(path, stream=number) for number in (0, 1))
    default, warnings = read(path)
    assert first[1] == second[1] == []
    assert np.array_equal(default, second[0])
    assert level(default) > 1.5 * level(first[0])
    assert warnings == [f"{path}: holds 2 audio streams, number 1 (from 0) was read"]
    assert (probe(path).stream, probe(path).streams) == (1, 2)
    assert np.array_equal(decode(path, stream=0)[0], first[0])
    with pytest.raises(AudioError, match="no audio stream 2, only 0 to 1"):
        AudioReader(path, stream=2)


# Chained files


def test_chained_parts_of_other_channels_follow():
    samples, warnings = read(CASES / "chained_mono.ogg")
    assert probe(CASES / "chained_mono.ogg").duration == pytest.approx(16, abs=0.01)
    assert samples.shape == (2, 16 * 44_100)
    assert warnings == []
    assert [round(pitch(part, 44_100)) for part in np.split(samples[0], 16)] == [220] * 8 + [277] * 8
    assert np.array_equal(samples[0, 8 * 44_100 :], samples[1, 8 * 44_100 :])
    assert level(samples[0, 8 * 44_100 :]) == pytest.approx(0.084, abs=0.001)  # that of the part by itself


def test_chained_parts_with_covers_follow():
    samples, warnings = read(CASES / "a_ogg_concat.ogg")
    assert samples.shape == (2, 2 * 48_000)
    assert warnings == []


def test_chained_parts_of_another_rate_are_resampled(tmp_path):
    parts = []
    for number, rate in enumerate((48_000, 16_000, 44_100)):
        tone = 0.3 * np.sin(2 * np.pi * 400 * (number + 1) * np.arange(rate) / rate)[None].astype(np.float32)
        parts.append(encode_with(tmp_path / f"{number}", "flac", tone, rate, "mono", "ogg").read_bytes())
    (tmp_path / "chained.ogg").write_bytes(b"".join(parts))
    samples, warnings = read(tmp_path / "chained.ogg")
    assert samples.shape == (1, 3 * 48_000)
    assert warnings == []
    assert [round(pitch(part, 48_000)) for part in np.split(samples[0], 3)] == [400, 800, 1200]
    assert [round(level(part), 2) for part in np.split(samples[0], 3)] == [0.21] * 3


def test_a_chained_part_that_cannot_be_read_is_missing(tmp_path, noise):
    good, bad = (
        encode_with(tmp_path / name, "flac", noise(1, 44_100 + number), 44_100, "mono", "ogg").read_bytes()
        for number, name in enumerate("ab")
    )
    path = tmp_path / "chained.ogg"
    path.write_bytes(good + bad.replace(b"\x7fFLAC", b"\x7fNONE"))
    samples, warnings = read(path)
    assert samples.shape == (1, 44_100)
    assert len(warnings) == 1
    assert "a part after 1.0 s is missing" in warnings[0]
    path.write_bytes(bad.replace(b"\x7fFLAC", b"\x7fNONE") + good)
    with pytest.raises(AudioError):
        read(path)


# Time stamps


def test_a_gap_is_filled_with_silence_or_closed_up():
    path = CASES / "gap.mkv"
    samples, warnings = read(path)
    assert abs(samples.shape[1] / 44_100 - 8.03) < 0.01
    assert np.abs(samples[:, round(3.1 * 44_100) : round(4.9 * 44_100)]).max() == 0
    assert warnings == [f"{path}: 2.00 s of sound are missing, the first at 3.02 s; silence is in their place"]
    closed, warnings = read(path, fill_gaps=False)
    after = samples.shape[1] - closed.shape[1]
    assert abs(after - 2 * 44_100) < 500
    assert warnings == []
    assert np.array_equal(samples[:, -100_000:], closed[:, -100_000:])


def video_with_late_sound(path: Path, delay: float) -> Path:
    """A picture from the start, sound of two seconds ``delay`` s later."""
    rate = 44_100
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        picture = av.VideoFrame.from_image(Image.new("RGB", (64, 64))).reformat(format="yuv420p")
        for number in range(40):
            picture.pts = number
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for start in range(0, 2 * rate, 1050):
            block = np.full((1, 1050), 10_000, np.int16)
            frame = av.AudioFrame.from_ndarray(block, "s16", "mono")
            frame.sample_rate, frame.pts = rate, round(delay * rate) + start
            container.mux(audio.encode(frame))
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mov"])
def test_sound_that_starts_late_stays_under_the_picture(tmp_path, suffix):
    path = video_with_late_sound(tmp_path / f"late.{suffix}", 1.5)
    samples, warnings = read(path)
    assert abs(samples.shape[1] - 3.5 * 44_100) < 150
    assert np.flatnonzero(samples[0])[0] == pytest.approx(1.5 * 44_100, abs=150)
    assert "1.50 s of sound are missing, the first at 0.00 s" in warnings[0]
    assert read(path, fill_gaps=False)[0].shape[1] == 2 * 44_100
    prompt, warnings = read(video_with_late_sound(tmp_path / f"prompt.{suffix}", 0))
    assert (prompt.shape[1], warnings) == (2 * 44_100, [])


@pytest.mark.parametrize(("suffix", "seconds"), [("mov", 2.03), ("mkv", 2.0)])
def test_jitter_of_a_coarse_clock_is_no_gap(tmp_path, suffix, seconds):
    """Matroska counts milliseconds, where up to 50 ms are jitter; the MOV file counts samples."""
    samples, _ = read(video_with_late_sound(tmp_path / f"late.{suffix}", 0.03))
    assert samples.shape[1] == pytest.approx(seconds * 44_100, abs=50)


# Truncation and damage


def test_a_guessed_length_is_no_promise():
    samples, warnings = read(CASES / "vbr_noxing_silent.mp3")
    assert abs(samples.shape[1] / 44_100 - 14.0) < 0.05
    assert warnings == []


def test_the_end_of_an_ogg_file_is_missed():
    path = CASES / "tr_t.opus"
    samples, warnings = read(path)
    assert abs(samples.shape[1] / 48_000 - 9) < 0.02
    assert warnings == [f"{path}: truncated, the end is missing after 9.0 s"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.mka"])
def test_the_truncated_are_said_to_be_and_the_whole_are_not(song, tmp_path, noise, name):
    if name == "a.mka":
        path = encode_with(tmp_path / name, "flac", noise(2, 300_000), 44_100, "stereo", "matroska")
    else:
        path = song(name, samples=300_000)
    assert read(path)[1] == []
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    samples, warnings = read(path)
    assert 0.75 < samples.shape[1] / 300_000 < 1.2  # Ogg is at 48 kHz
    assert len(warnings) == 1
    assert "truncated" in warnings[0]


CODECS = {"a.mp2": ("mp2", "mp2"), "a.ac3": ("ac3", "ac3"), "a.eac3": ("eac3", "eac3"), "a.ts": ("mp2", "mpegts")}


@pytest.mark.parametrize("name", [*CODECS, "a.caf"])
def test_formats_that_declare_no_length_are_cut_within_a_packet(tmp_path, noise, name):
    codec, container = CODECS.get(name, ("pcm_s16be", "caf"))
    path = encode_with(tmp_path / name, codec, noise(2, 300_000), 44_100, "stereo", container)
    whole, warnings = read(path)
    assert warnings == []
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 9 // 10 + 1])
    samples, warnings = read(path)
    assert 0.85 < samples.shape[1] / whole.shape[1] < 0.95
    assert warnings == [f"{path}: truncated, the end is missing after {samples.shape[1] / 44_100:.1f} s"]


@pytest.mark.parametrize("damage", ["zeros", "cut"])
def test_a_damaged_flac_keeps_its_time(song, damage):
    path = song("a.flac", samples=441_000, bit_depth="24")
    whole = decode(path)[0]
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000) if damage == "zeros" else b""
    path.write_bytes(data)
    samples, warnings = read(path)
    assert samples.shape == whole.shape
    assert np.array_equal(samples[:, -100_000:], whole[:, -100_000:])
    assert any("s of sound are missing" in warning for warning in warnings)


def test_a_flac_of_more_or_fewer_samples_than_declared_is_told(song):
    path = song("a.flac", samples=200_000)
    header = path.read_bytes()
    place = header.index(b"fLaC") + 4 + 4 + 13
    for total, words in ((199_000, "damaged, 4.535 s could be read where 4.512 s"), (200_001, "truncated"), (0, None)):
        data = bytearray(header)
        data[place : place + 5] = (data[place] >> 4 << 36 | total).to_bytes(5, "big")
        path.write_bytes(data)
        samples, warnings = read(path)
        assert samples.shape[1] == 200_000
        assert [words in warning for warning in warnings] == ([True] if words else [])


def test_a_source_that_fails_midway_is_read_up_to_there(song):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 500_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    samples, warnings = read(Failing(song("a.flac", samples=300_000).read_bytes()))
    assert 100_000 < samples.shape[1] < 250_000
    assert re.search(r"truncated, .* of 6\.8 s could be read \(input/output error\)", warnings[-1])


# Faults


def test_a_damaged_frame_does_not_rule_the_scale():
    path = CASES / "spike85.mp3"
    samples, warnings = read(path)
    assert samples.shape[1] == 8 * 44_100
    assert np.abs(samples).max() < 1.3
    assert len(warnings) == 1
    assert "samples of damaged sound were clipped: up to +80 dB over full scale, the first at 0.01 s" in warnings[0]


def test_a_glitch_in_a_float_file_is_clipped_alone(tmp_path, noise):
    x = noise(2, 200_000)
    x[:, 100] = 2.5  # loud, but no fault
    x[1, 70_000] = -1e30
    samples, warnings = read(write_floats(tmp_path / "a.wav", x, 44_100))
    x[1, 70_000] = -1
    assert np.array_equal(samples, x)
    assert "1 samples of damaged sound were clipped: up to +600 dB" in warnings[0]


@pytest.mark.parametrize("scale", [1e7, 1e37])
def test_a_float_file_of_another_scale_is_refused(tmp_path, noise, scale):
    path = write_floats(tmp_path / "a.wav", noise(2, 100_000) * np.float32(scale), 44_100)
    with pytest.raises(AudioError, match=r"a\.wav: its samples are far too large \(up to .* dB .*\); scale them to ±1"):
        decode(path)


def test_a_float_file_of_integer_scale_is_read_as_it_is(tmp_path, noise):
    x = noise(2, 1000) * 32_768
    samples, warnings = read(write_floats(tmp_path / "a.wav", x, 44_100))
    assert np.array_equal(samples, x)
    assert warnings == []


# Headers


def wav_of(path: Path, rate: int, channels: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(bytes(2 * channels * 1000))
    return path


def test_absurd_headers_are_refused(tmp_path):
    with pytest.raises(AudioError, match="has a sample rate of 1 Hz; 1000 to 3000000 Hz can be read"):
        AudioReader(CASES / "rate_1.wav")
    with pytest.raises(AudioError, match="sample rate of 4000000 Hz"):
        AudioReader(wav_of(tmp_path / "a.wav", 4_000_000))
    with pytest.raises(AudioError, match="65 channels; up to 64"):
        AudioReader(wav_of(tmp_path / "a.wav", 44_100, 65))


def test_blocks_are_bounded_in_seconds(tmp_path):
    (block,) = AudioReader(wav_of(tmp_path / "a.wav", 44_100))
    assert block.shape == (2, 1000)
    reader = AudioReader(wav_of(tmp_path / "b.wav", 1_000))
    assert reader.block_size == 2_000


@pytest.mark.parametrize("source", [b"bytes", ["a.wav"], 5])
def test_what_is_no_file_is_refused(source):
    with pytest.raises(AudioError, match="expected a path or a binary file"):
        AudioReader(source)


def test_pipes_and_addresses_are_refused():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    with pytest.raises(AudioError, match="cannot be read twice"):
        AudioReader(Pipe(b"RIFF"))
    with pytest.raises(AudioError, match=r"https://example\.org/a\.mp3: addresses are not read"):
        AudioReader("https://example.org/a.mp3")


# Bit depths


@pytest.mark.parametrize(
    ("codec", "container", "depth"),
    [
        *(("pcm_s16le", "wav", "16"), ("pcm_u8", "wav", "16"), ("pcm_s24le", "wav", "24"), ("pcm_f32le", "wav", "32f")),
        *(("flac", "flac", "16"), ("alac", "ipod", "24"), ("aac", "ipod", "16")),
    ],
)
def test_the_depth_that_keeps_the_source(tmp_path, noise, codec, container, depth):
    assert probe(encode_with(tmp_path / "a", codec, noise(2, 5000), 44_100, "stereo", container)).bit_depth == depth


def test_the_depth_of_a_format():
    assert [kept_bit_depth("wav", depth) for depth in ("16", "24", "32f")] == ["16", "24", "32f"]
    assert [kept_bit_depth("flac", depth) for depth in ("16", "24", "32f")] == ["16", "24", "24"]
    assert kept_bit_depth("mp3", "24") is None


@pytest.mark.parametrize(("name", "channels", "kilobits"), [("a.mp3", 2, 320), ("a.mp3", 1, 160), ("a.m4a", 2, 256)])
def test_default_bitrates(tmp_path, name, channels, kilobits):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (channels, 441_000)).astype(np.float32)
    with AudioWriter(tmp_path / name, 44_100, channels) as writer:
        writer.write(noise)
    assert (tmp_path / name).stat().st_size * 8 / 10 / 1000 == pytest.approx(kilobits, rel=0.04)


# Covers


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "reason"), [("trunc_jpg", "broken"), ("bomb_1x70000", "too large: 1 × 70000 pixels")])
def test_a_bad_cover_is_left_out_with_a_warning(name, reason):
    reader = AudioReader(CASES / f"{name}.mp3")
    assert reader.info.cover
    assert reader.cover is None
    for _ in range(2):
        list(reader)
        assert len(reader.warnings) == 1
        assert f"{name}.mp3: the cover was left out: the picture is {reason}" in reader.warnings[0]


def test_covers_are_bounded():
    for data in (png(1, 20_000), png(7000, 7000), b"\xff\xd8\xff" * 6_000_000):
        with pytest.raises(AudioError, match="the picture is too large"):
            open_cover(data)
    header = bytearray(png(8, 8))
    header[16:24] = struct.pack(">II", 50_000, 50_000)
    for data in (bytes(header), b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", png(8, 8)[:40]):
        with pytest.raises(AudioError, match="the picture is"):
            open_cover(data)
    assert (open_cover(png(6000, 6000)).width, open_cover(png(8, 8)).format) == (6000, "PNG")


@pytest.mark.parametrize("size", [(1, 16_384), (16_384, 1), (6000, 6000)])
@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.flac", "a.ogg"])
def test_every_cover_within_the_bounds_can_be_written(song, name, size):
    assert probe(song(name, cover=png(*size))).cover == png(*size)


@pytest.mark.parametrize("cover", [png(1, 70_000), png(16_384, 1), probe(CASES / "trunc_jpg.mp3").cover])
def test_a_video_comes_with_any_cover(tmp_path, noise, cover):
    with VideoWriter(tmp_path / "a.mp4", 44_100, 2, cover=cover) as writer:
        writer.write(noise(2, 44_100))
    assert decode(tmp_path / "a.mp4")[0].shape[1] == 44_100


# Writing


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.opus"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_not_written(tmp_path, noise, name, value):
    block = noise(2, 10_000)
    block[1, 500] = value
    with (
        pytest.raises(AudioError, match=rf"{name}: cannot be written: samples are NaN or infinite"),
        AudioWriter(tmp_path / name, 44_100, 2) as writer,
    ):
        writer.write(block)
    assert list(tmp_path.iterdir()) == []


# Suffixes


def test_suffixes_are_those_of_sound():
    suffixes = audio_suffixes()
    usual = "wav mp3 flac ogg oga opus m4a m4b aac wma aif aiff wv ape mka mkv mp4 mov webm avi flv mpg".split()  # noqa: SIM905
    rare = "caf w64 au dts tta ac3 ts aifc dsf 3gp m4v wmv mpc m2ts amr mp2 spx alac".split()  # noqa: SIM905
    others = "txt jpg jpeg png gif heic avif srt ass sub lrc m3u m3u8 json nfo py rs js xml pdf idx".split()  # noqa: SIM905
    assert {f".{name}" for name in usual + rare} <= suffixes
    assert not suffixes & {f".{name}" for name in others}
