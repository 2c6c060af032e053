"""Bad input through the command: one line that names the file, the right exit code, nothing half-written."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from frame_transformer.audio import AudioWriter, decode


def silence_of_no_length(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 44_100, 0, "NONE", ""))


def samples(value):
    def write(path):
        with AudioWriter(path, 44_100, 2, bit_depth="32f") as writer:
            writer.write(np.zeros((2, 50_000), np.float32))
        with path.open("r+b") as file:  # by hand, as the writer refuses it
            file.seek(-(50_000 - 44_100) * 2 * 4, 2)
            file.write(np.float32(value).tobytes())

    return write


BAD = {
    "missing.wav": (lambda path: None, "no such file"),
    "empty.wav": (lambda path: path.touch(), "the file is empty"),
    "text.mp3": (lambda path: path.write_text("no sound in here " * 100), "text.mp3: "),
    "nothing.wav": (silence_of_no_length, "holds no audio samples"),
    "nan.wav": (samples(np.nan), "NaN or infinite samples, the first at 1.000 s"),
    "infinite.wav": (samples(-np.inf), "NaN or infinite samples, the first at 1.000 s"),
    "folder": (lambda path: path.mkdir(), "the folder holds no audio files"),
    "*.xyz": (lambda path: None, "no file matches"),
    "list.m3u": (lambda path: path.write_text("#EXTM3U\n"), "the playlist names no files"),
}


@pytest.mark.parametrize("clip", ["rescale", "none"])
@pytest.mark.parametrize("name", BAD)
def test_bad_files(run, tiny_file, tmp_path, name, clip):
    make, message = BAD[name]
    make(tmp_path / name)
    code, out, err = run("separate", name, "-n", tiny_file, "-o", "out", "--clip", clip, "--video", "--images")
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_an_unknown_model(run, song):
    code, _, err = run("separate", song(), "-n", "nobody")
    assert (code, err.count("\n")) == (1, 1)
    assert "unknown model 'nobody': it is neither a file nor one of default, v1, v2b" in err


def test_a_truncated_file_is_separated_with_a_warning(run, song, tiny_file, tmp_path):
    path = song("song.mp3", samples=100_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, _, err = run("separate", path, "-n", tiny_file)
    assert code == 0
    assert "warning:" in err
    assert "truncated" in err
    assert 30_000 < decode("separated/tiny/song/vocals.wav")[0].shape[1] < 70_000


@pytest.mark.parametrize(("channels", "rate"), [(1, 8_000), (8, 48_000)], ids=["phone", "7.1"])
def test_unusual_but_good(run, song, tiny_file, channels, rate):
    path = song("song.wav", channels, 5_001, rate)
    assert run("separate", path, "-n", tiny_file)[0] == 0
    vocals, vocals_rate = decode("separated/tiny/song/vocals.wav")
    assert (vocals.shape, vocals_rate) == ((channels, 5_001), rate)


def test_surround_in_a_format_for_stereo_is_refused(run, song, tiny_file):
    code, _, err = run("separate", song("song.wav", 8, 2_000), "-n", tiny_file, "--format", "mp3")
    assert (code, err.count("\n")) == (1, 1)
    assert "try wav or flac" in err


def test_names(run, song, tiny_file, tmp_path):
    for name in ("日本語 – ünï #%20?", "n" * 240, "ŋ" * 120):
        song(f"{name}.wav", samples=2_000)
    assert run("separate", ".", "-n", tiny_file)[0] == 0
    assert len(list((tmp_path / "separated" / "tiny").glob("*/vocals.wav"))) == 3
    assert (tmp_path / "separated" / "tiny" / "日本語 – ünï #%20?" / "vocals.wav").is_file()


def test_an_output_folder_that_is_a_file(run, song, tiny_file, tmp_path):
    (tmp_path / "out").write_text("mine")
    code, _, err = run("separate", song(), "-n", tiny_file, "-o", "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "choose another output folder" in err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_read_only_output_folder(run, song, tiny_file, monkeypatch):
    path = song()
    plain = Path.open

    def refuse(self, mode="r", *arguments, **options):  # root may write anywhere: the system's answer is played
        if "x" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return plain(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    code, _, err = run("separate", path, "-n", tiny_file)
    assert (code, err.count("\n")) == (1, 1)
    assert "read-only" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(run, song, tiny_file, tmp_path, monkeypatch):
    path = song()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115
    code, _, err = run("separate", path, "-n", tiny_file)
    assert (code, err.count("\n")) == (1, 1)
    assert "no room for temporary files" in err
    assert not [path for path in (tmp_path / "separated").rglob("*") if path.is_file()]


def test_a_limit_of_the_file_size(run, song, tiny_file, tmp_path):
    path = song(samples=60_000)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        code, _, err = run("separate", path, "-n", tiny_file, "--clip", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot be written" in err
    assert not [path for path in (tmp_path / "separated").rglob("*") if path.is_file()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_nothing_half_written(song, tiny_file, tmp_path, jobs):
    for number in range(2):
        song(f"{number}.wav", 1, 8_000 * 120, 8_000)
    line = ["separate", tmp_path, "-n", tiny_file, "-o", tmp_path / "out", "--clip", "none", "-j", jobs]
    # A shell that runs the tests in the background makes its children ignore Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; from frame_transformer.cli import main; main()", *map(str, line)],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("*.part.*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
