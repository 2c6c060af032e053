"""The documentation builds without a broken link, and its Python examples run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = [
    pytest.param(code, id=f"{page}-{number}")
    for page in ("quickstart", "api")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.S))
]


def test_the_site_builds_with_every_link_and_command(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    commands = (tmp_path / "commands/index.html").read_text()
    assert all(f"frame-transformer {name}" in commands for name in ("separate", "data scan", "data prepare"))


@pytest.mark.parametrize("code", EXAMPLES)
def test_example(code, song, tmp_path):
    song()
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        check=True,
        capture_output=True,
    )
