"""The recipe's steps are scripts that import each other by name, as they do when they are run."""

import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "default"
sys.path.insert(0, str(RECIPE))


@pytest.fixture
def commit():
    """Makes a folder a git repository and returns the commit of all that lies in it."""

    def all_of(folder: Path) -> str:
        def git(*arguments: str) -> str:
            identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
            return subprocess.run(
                ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
            ).stdout.strip()

        git("init", "--quiet")
        git("add", ".")
        git("commit", "--quiet", "-m", "recordings")
        return git("rev-parse", "HEAD")

    return all_of
