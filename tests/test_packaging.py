"""Wheel and source archive, built and used as a stranger would."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from frame_transformer.audio import decode

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The folder of a source archive and of the wheel made from it."""
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(line, check=True, capture_output=True)
    return folder


def test_the_wheel_separates_in_an_empty_environment(archives, tmp_path, song):
    (wheel,) = archives.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    # The dependencies are borrowed from this environment; its own editable installation stays out of sight, as the
    # files that announce it are read in the first folder of packages alone.
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--force-reinstall", "--prefix", str(tmp_path / "venv"), str(wheel)], check=True)

    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = tmp_path / "venv" / "bin" / "frame-transformer"

    def run(*arguments: object) -> str:
        line = [command, *map(str, arguments)]
        return subprocess.run(line, cwd=tmp_path, env=clean, check=True, capture_output=True, text=True).stdout

    where = subprocess.run(
        [python, "-c", "import frame_transformer; print(frame_transformer.__file__)"],
        cwd=tmp_path, env=clean, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert Path(where).is_relative_to(packages)
    source, installed = (folder / "frame_transformer/training/configs" for folder in (ROOT / "src", packages))
    assert {path.name for path in installed.rglob("*")} == {path.name for path in source.rglob("*")}
    assert run("--version").startswith("frame-transformer ")
    run("separate", song(samples=20_000), "--window", "64", "--context", "0")
    assert decode(tmp_path / "separated" / "default" / "song" / "vocals.wav")[0].shape == (2, 20_000)


def test_the_source_archive_holds_what_the_tests_need(archives, tmp_path):
    (source,) = archives.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.glob("frame_transformer-*")
    for name in ("src", "tests", "recipes", "examples", "benchmarks", "docs"):
        here = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*.*") if path.suffix in (".py", ".md", ".yaml")}
        assert here == {path for path in here if (root / path).is_file()}
    line = [sys.executable, "-m", "pytest", "-q", "tests/test_architecture.py"]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
