"""The container's files and the launch examples pass their linters and fit the package."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ["build.sh", "examples/multinode/torchrun.sh", "examples/multinode/slurm.sbatch"]


def lint(program: str, *files: str) -> None:
    command = Path(sys.executable).parent / program
    done = subprocess.run([command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters():
    lint("hadolint", "Dockerfile")
    lint("shellcheck", *SCRIPTS)


def test_everything_that_is_copied_exists_and_is_let_through():
    copied = [
        name
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for name in line.split()[1:-1]
    ]
    let_through = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(let_through)
    assert all((ROOT / name).exists() for name in copied)


def test_build_passes_its_options_on(tmp_path):
    engine = tmp_path / "engine"
    engine.write_text('#!/bin/sh\nprintf "%s|" "$@" >> "$LOG"\necho >> "$LOG"\n')
    engine.chmod(0o755)
    environment = os.environ | {"ENGINE": str(engine), "LOG": str(tmp_path / "log"), "EXTRAS": "train"}
    subprocess.run([ROOT / "build.sh", "--no-cache"], env=environment, check=True, capture_output=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    build, run = (tmp_path / "log").read_text().splitlines()
    assert build == f"build|--tag|frame-transformer:{version}|--build-arg|EXTRAS=train|--no-cache|.|"
    assert run == f"run|--rm|frame-transformer:{version}|env-info|"


@pytest.mark.parametrize("missing", ["NODES", "DEVICES", "HEAD"])
def test_launch_example_asks_for_what_it_needs(missing):
    given = {"NODES": "2", "DEVICES": "8", "HEAD": "node1:29500"}
    environment = {key: value for key, value in (os.environ | given).items() if key != missing}
    done = subprocess.run([ROOT / SCRIPTS[1]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert missing in done.stderr
