"""Every data step, run as its user runs it, in its quick form."""

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

RECIPE = Path(__file__).parents[2] / "recipes" / "default"


def needs(*, modules: tuple[str, ...] = (), programs: tuple[str, ...] = (), files: tuple[str, ...] = ()):
    """Skips a test whose step's tools are not on this machine, and names them."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    missing += [name for name in programs if shutil.which(name) is None]
    missing += [name for name in files if not Path(name).exists()]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def run(step: str, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RECIPE / step), "--output", str(output), "--quick", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def check(path: Path) -> np.ndarray:
    """Reads a finished file and checks what all training audio must be."""
    audio, rate = soundfile.read(path)
    assert rate == 44_100
    assert audio.shape[1] == 2
    assert np.isfinite(audio).all()
    assert 0.05 < np.abs(audio).max() < 0.999
    assert abs(audio.mean()) < 1e-3
    return audio


def finished(folder: Path) -> list[Path]:
    assert not list(folder.rglob("*.part"))
    return sorted(folder.rglob("*.flac"))


@needs(modules=("stempeg", "av"))
def test_stems(tmp_path):
    assert run("01_stems.py", tmp_path).returncode == 0
    stems = {path.stem: check(path) for path in finished(tmp_path)}
    inside = slice(44_100, 5 * 44_100)  # the excerpt was cut out of compressed files: its ends ring
    missing = (stems["vocals"] + stems["instrumental"] - stems["mixture"])[inside]
    assert (missing**2).sum() < 0.01 * (stems["mixture"][inside] ** 2).sum()


@needs(programs=("dpkg", "dpkg-deb"))
def test_instrumentals_out_of_a_package(tmp_path):
    debs, tree = tmp_path / "debs", tmp_path / "tree"
    music = tree / "usr/share/games/pushover/data/sounds"
    music.mkdir(parents=True)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: pushover-data\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        "Description: a track for a test\n"
    )
    debs.mkdir()
    tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(22 * 44_100) / 44_100)
    soundfile.write(music / "theme.ogg", np.stack([tone, tone], 1), 44_100)
    subprocess.run(
        ["dpkg-deb", "-b", str(tree), str(debs / "pushover-data_1_all.deb")], check=True, capture_output=True
    )
    result = run("02_instrumentals.py", tmp_path / "data", "--debs", str(debs))
    assert result.returncode == 0, result.stderr
    (path,) = finished(tmp_path / "data" / "unscanned")
    assert path.name == "theme.flac"
    assert len(check(path)) == pytest.approx(22 * 44_100, rel=0.01)
    report = {"tracks": {"pushover-data: theme.flac": {"p90_db": -12.0, "mean_db": -15.0}}}
    (tmp_path / "data" / "voice_scan.json").write_text(json.dumps(report))
    run("02_instrumentals.py", tmp_path / "data", "--debs", str(debs))
    (path,) = finished(tmp_path / "data")
    assert path == tmp_path / "data" / "songs_with_voice" / "pushover-data" / "theme.flac"


def test_the_share_of_a_voice_is_measured_by_the_second():
    scan = importlib.import_module("02_voice_scan")
    rng = np.random.default_rng(0)
    track = rng.standard_normal((2, 10 * 44_100)) * 0.1
    vocals = np.zeros_like(track)
    vocals[:, : 2 * 44_100] = 0.5 * track[:, : 2 * 44_100]  # a voice at -6 dB in two of ten seconds
    share = scan.voice_share(track, vocals)
    assert share["p90_db"] == pytest.approx(-6, abs=0.1)
    assert share["mean_db"] == pytest.approx(-6 - 7, abs=0.1)
    assert scan.voice_share(track, 0 * vocals)["p90_db"] < -80


@needs(modules=("pyworld", "pedalboard"), programs=("flite", "espeak-ng"))
def test_singing(tmp_path):
    result = run("03_singing.py", tmp_path)
    assert result.returncode == 0, result.stderr
    takes = {path.relative_to(tmp_path).as_posix(): check(path) for path in finished(tmp_path)}
    assert any(name.startswith("singing/slt-") for name in takes)
    assert any(name.startswith("validation/singing/awb-") for name in takes)
    again = run("03_singing.py", tmp_path)
    assert "song" not in again.stdout  # everything is there already
    name = next(iter(takes))
    (tmp_path / name).unlink()
    run("03_singing.py", tmp_path)
    assert np.array_equal(takes[name], check(tmp_path / name))


@needs(modules=("mido", "pedalboard"), programs=("fluidsynth",), files=("/usr/share/sounds/sf2/FluidR3_GM.sf2",))
def test_general_midi(tmp_path):
    result = run("04_midi.py", tmp_path)
    assert result.returncode == 0, result.stderr
    (path,) = finished(tmp_path)
    audio = check(path)
    assert path.relative_to(tmp_path).as_posix() == "instrumentals/midi/pop-000.flac"
    assert np.abs(audio[:, 0] - audio[:, 1]).max() > 0.01  # a stereo mix


@needs(modules=("av",))
def test_mixes_for_the_teacher(tmp_path):
    """Mixes with voice, and music as it is, each 24 s long and as loud as the teacher likes it."""
    random = np.random.default_rng(0)
    parts = ("stems/song/vocals", "stems/song/instrumental", "separated/spleeter/songs/other/vocals")
    parts += ("separated/spleeter/songs/other/instrumental", "voices/a/take", "singing/b/take", "instrumentals/c/track")
    for part in (*parts, "songs_with_voice/d/track"):
        path = tmp_path / f"{part}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.02 * random.standard_normal((30 * 44_100, 2)), 44_100)
    result = run("07_teacher_mixes.py", tmp_path)
    assert result.returncode == 0, result.stderr
    mixes, music = (check(path) for path in finished(tmp_path / "teacher_mixes"))
    length = 2 * 512 * 1024
    assert (len(mixes), len(music)) == (2 * length, length)
    for audio in (mixes[:length], mixes[length:], music):
        assert np.sqrt(np.mean(audio**2)) == pytest.approx(0.16, rel=0.2)
    assert not np.allclose(mixes[:length], mixes[length:], atol=0.1)
