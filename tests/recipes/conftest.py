"""The recipe's steps are scripts that import each other by name, as they do when they are run."""

import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "default"
sys.path.insert(0, str(RECIPE))
