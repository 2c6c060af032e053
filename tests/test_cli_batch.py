"""Batches as people have them: odd names, pipes, failures in the middle, ends by signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rich.progress

from frame_transformer.audio import AudioReader, decode
from frame_transformer.audio.section import Section
from frame_transformer.errors import explain
from frame_transformer.separation import batch

MAIN = "from frame_transformer.cli import main; main()"


def start(*arguments, code=MAIN, **options):
    """The command in a process of its own, whose output is strict about text, as it is outside the locale C."""
    variables = {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8:strict"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | variables, **options,
    )  # fmt: skip


def files(folder):
    return [path for path in Path(folder).rglob("*") if path.is_file() and ".frame-transformer" not in path.parts]


# One failure is one failed song

FAULTS = {
    "MemoryError": (MemoryError(), "not enough memory; try a smaller --window"),
    "CPU": (RuntimeError("alloc_cpu.cpp:117: can't allocate memory: you tried to allocate 9 bytes\n#1"), "--window"),
    "RuntimeError": (RuntimeError("shapes do not fit\nmore lines"), "RuntimeError: shapes do not fit more lines"),
    "IndexError": (IndexError("list index out of range"), "IndexError: list index out of range"),
    "UnicodeEncodeError": (UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates"), "UnicodeEncodeError: "),
    "no reason": (ArithmeticError(), "ArithmeticError: no reason given"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_any_fault_is_that_of_one_song(run, song, tiny_file, monkeypatch, name):
    for letter in "abc":
        song(f"{letter}.wav", samples=3000)
    fault, message = FAULTS[name]
    plain = AudioReader.__iter__

    def faulty(reader):
        if Path(reader.name).name == "b.wav":
            raise fault
        return plain(reader)

    monkeypatch.setattr(AudioReader, "__iter__", faulty)
    code, out, err = run("separate", "a.wav", "b.wav", "c.wav", "-n", tiny_file)
    assert code == 1
    assert len(out.splitlines()) == 4
    (line,) = [line for line in err.splitlines() if "b.wav" in line]
    assert line.startswith("error: b.wav: ")
    assert message in line
    assert "1 of 3 files failed" in err
    assert not (Path("separated/tiny/b")).exists() or not files("separated/tiny/b")


def test_the_log_has_the_traceback(run, song, tiny_file, monkeypatch, caplog):
    def fail(*_):
        raise IndexError("deep inside")

    monkeypatch.setattr(AudioReader, "__iter__", fail)
    with caplog.at_level("INFO", "frame_transformer"):
        assert run("separate", song(), "-n", tiny_file)[0] == 1
    assert "IndexError: deep inside" in caplog.text
    assert "Traceback" in caplog.text


def test_memory_that_a_gpu_has_not():
    class OutOfMemoryError(RuntimeError):
        pass

    assert explain(OutOfMemoryError("CUDA"), "a.wav", "less") == "a.wav: not enough memory; try less"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize(("window", "code"), [(500_000, 1), (10**9, 2)], ids=["too large", "absurd"])
def test_a_window_too_large_for_the_memory(song, tiny_file, tmp_path, window, code):
    path = song(samples=3000)
    limit = "import resource, torch; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); "
    process = start("separate", path, "-n", tiny_file, "--window", window, code=limit + MAIN, cwd=tmp_path)
    _, err = process.communicate(timeout=200)
    assert process.returncode == code, err
    assert err.startswith(b"error: ")
    assert b"--window" in err
    assert err.count(b"\n") == 1


def test_a_song_that_is_replaced_in_mid_run(run, song, tiny_file, tmp_path, monkeypatch):
    path, other = song("a.wav", samples=60_000), song("b.wav", samples=50_000)
    plain = batch.separate_file

    def replaced(separator, source, options, progress, outputs):
        def report(done, total):
            progress(done, total)
            if done and other.exists():
                os.replace(other, path)

        return plain(separator, source, options, report, outputs)

    monkeypatch.setattr(batch, "separate_file", replaced)
    code, _, err = run("separate", path, "-n", tiny_file)
    assert code == 1
    assert "a.wav" in err
    assert err.count("\n") == 1
    assert not files("separated")


def test_a_progress_function_may_end_the_batch(tiny_model, song):
    from frame_transformer.separation import OutputOptions, Separator, find_songs, separate_files

    songs = find_songs([song("a.wav"), song("b.wav")]).songs

    def cancel(*_):
        raise LookupError("enough")

    for jobs in (1, 2):
        results = separate_files(
            Separator(tiny_model), songs, OutputOptions(Path(songs[0].source).parent / "out"), cancel, jobs
        )
        with pytest.raises(LookupError, match="enough"):
            list(results)


def test_an_error_of_a_progress_function_stops_the_other_jobs(tiny_model, song, tmp_path):
    from frame_transformer.separation import OutputOptions, Separator, find_songs, separate_files

    def cancel(source, *_):
        if source.name == "a.wav":
            raise LookupError("enough")

    songs = find_songs([song("a.wav"), song("b.wav", samples=2_000_000)]).songs
    with pytest.raises(LookupError, match="enough"):
        list(separate_files(Separator(tiny_model), songs, OutputOptions(tmp_path / "out"), cancel, jobs=2))
    assert not list((tmp_path / "out").rglob("*.wav"))


# Names, pipes, sources


@pytest.mark.skipif(sys.platform != "linux", reason="names are not bytes here")
def test_names_that_are_no_text_come_out_as_they_are(song, tiny_file, tmp_path):
    os.rename(song(samples=3000), os.fsdecode(os.fsencode(tmp_path) + b"/Caf\xe9.wav"))
    out, err = start("separate", ".", "-n", tiny_file, cwd=tmp_path).communicate()
    assert b"separated/tiny/Caf\xe9/vocals.wav\n" in out, err
    out, err = start("separate", ".", "-n", tiny_file, "--json", cwd=tmp_path).communicate()
    row = json.loads(out)
    assert (row["skipped"], os.fsencode(row["source"])) == (True, b"Caf\xe9.wav"), err
    (tmp_path / os.fsdecode(b"bad\xe9.wav")).write_text("no sound")
    process = start("separate", ".", "-n", tiny_file, cwd=tmp_path)
    _, err = process.communicate()
    assert process.returncode == 1
    assert b"error: bad\\udce9.wav: " in err


def test_control_characters_of_names_stay_in_one_line(run, tiny_file):
    Path("two\nlines\x1b[31m.wav").write_text("no sound")
    _, _, err = run("separate", ".", "-n", tiny_file)
    assert err.count("\n") == 1
    assert "two\\nlines\\x1b[31m.wav" in err


def test_standard_input(song, tiny_file, tmp_path):
    path = song(samples=3000)
    for skipped in (False, True):
        with path.open("rb") as file:
            out, err = start("separate", "-", "-n", tiny_file, "--json", stdin=file, cwd=tmp_path).communicate()
        row = json.loads(out)
        assert (row["source"], row["error"], row["skipped"]) == ("-", None, skipped), err
    assert decode(tmp_path / "separated/tiny/stdin/vocals.wav")[0].shape == (2, 3000)
    process = start("separate", "-", "-n", tiny_file, stdin=subprocess.DEVNULL, cwd=tmp_path)
    _, err = process.communicate()
    assert process.returncode == 1
    assert err.decode().splitlines() == ["error: -: the file is empty"]


def test_what_is_no_song_fails_and_the_rest_goes_on(run, song, tiny_file):
    song("a.wav", samples=3000)
    Path("empty").mkdir()
    sources = ("https://example.org/a.mp3", "empty", "*.flac", "", "a.wav")
    code, out, err = run("separate", *sources, "-n", tiny_file, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert err == ""
    assert [row["source"] for row in rows] == list(sources)
    assert [row["error"] is None for row in rows] == [False] * 4 + [True]


def test_a_second_run_leaves_its_own_stems_alone(run, song, tiny_file):
    Path("CD1").mkdir()
    song("CD1/01.wav", samples=3000)
    Path("CD1/cover.jpg").touch()
    Path("CD1/._01.wav").touch()
    assert run("separate", ".", "-n", tiny_file)[1].splitlines()[0] == "separated/tiny/CD1/01/vocals.wav"
    code, out, err = run("separate", ".", "-n", tiny_file)
    assert code == 0
    assert out.splitlines() == [
        "CD1/01.wav: already separated by this model with these options: separated/tiny/CD1/01/vocals.wav "
        "(--overwrite repeats)"
    ]
    assert err == "left out: 1 not audio, 1 hidden, 2 stems of an earlier run\n"


def test_an_input_that_is_a_stem_is_not_replaced(run, song, tiny_file):
    content = song("vocals.wav", samples=3000).read_bytes()
    code, _, err = run("separate", "vocals.wav", "-n", tiny_file, "-o", ".", "--filename", "{stem}.{ext}")
    assert code == 1
    assert err.count("\n") == 1
    assert "would overwrite" in err
    assert Path("vocals.wav").read_bytes() == content


# Ends


def wait_for(condition, process, seconds=150):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.parametrize("jobs", [1, 2])
def test_sigterm_leaves_nothing_half_written(song, tiny_file, tmp_path, jobs):
    (tmp_path / "songs").mkdir()
    for number in range(2):
        song(f"songs/{number}.wav", 1, 8_000 * 120, 8_000)
    process = start("separate", "songs", "-n", tiny_file, "-o", "out", "--clip", "none", "-j", jobs, cwd=tmp_path)
    wait_for(lambda: list((tmp_path / "out").rglob("*.part*")), process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in err
    assert not files(tmp_path / "out")


def test_a_signal_that_arrives_while_ffmpeg_reads_ends_the_command(run, song, tiny_file, tmp_path, monkeypatch):
    read, exceptions = Section.read, []
    signals = iter([signal.SIGTERM])

    def interrupted(self, size=-1):
        try:
            for number in signals:
                signal.raise_signal(number)
        except SystemExit as error:  # PyAV would lose it, or end the process without cleaning up
            exceptions.append(error)
        return read(self, size)

    monkeypatch.setattr(Section, "read", interrupted)
    code, out, err = run("separate", song(samples=3_000_000), "-n", tiny_file, "-o", "out")
    assert (code, out, err, exceptions) == (128 + signal.SIGTERM, "", "", [])
    assert not files(tmp_path / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_what_a_killed_run_left_is_gone_after_the_next(run, song, tiny_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    song("long.wav", 1, 8_000 * 120, 8_000)
    song("short.wav", samples=3000)
    with open("short.wav", "rb") as file:
        process = start(
            "separate", "long.wav", "-", "-n", tiny_file, "-o", "out", "--clip", "none", stdin=file, cwd=tmp_path
        )
        wait_for(lambda: list((tmp_path / "out").rglob("*.part*")), process)
    process.kill()
    process.communicate()
    assert files("out")
    assert files("tmp")
    # The next run is about another song.
    process = start("separate", "short.wav", "-n", tiny_file, "-o", "out", cwd=tmp_path)
    process.communicate()
    assert process.returncode == 0
    assert {path.parent.name for path in files("out")} == {"short"}
    assert not os.listdir("tmp")


# Bars and help


def test_the_bar_of_all_files_moves_within_a_song(run, song, tiny_file, monkeypatch):
    shares, columns = [], []

    class Watched(rich.progress.Progress):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            columns.extend(map(type, arguments))

        def update(self, task, **fields):
            super().update(task, **fields)
            if self.tasks and self.tasks[0].description == "all files":
                shares.append(self.tasks[0].completed)

    monkeypatch.setattr(rich.progress, "Progress", Watched)
    monkeypatch.setenv("FORCE_COLOR", "1")  # stands for a terminal
    song("a.wav", samples=60_000)
    song("b.wav", samples=60_000)
    assert run("separate", "a.wav", "b.wav", "-n", tiny_file)[0] == 0
    assert {rich.progress.TaskProgressColumn, rich.progress.TimeRemainingColumn} <= set(columns)
    assert len({share for share in shares if 0 < share < 1}) > 2
    assert len({share for share in shares if 1 < share < 2}) > 2
    assert shares == sorted(shares)
    assert shares[-1] == 2


@pytest.mark.parametrize("command", ["separate", "evaluate", "models", "web", "data scan", "data prepare"])
def test_flags_are_shown_as_flags(run, command):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0
    assert "--help" in out
    assert "bool" not in out.lower()
