"""Imports go one way, and the package starts fast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "frame_transformer"
ALLOWED = {
    "layers": set(),
    "audio": {"errors", "files"},
    "hub": {"errors"},
    "models": {"layers", "errors"},
    "checkpoints": {"models", "layers", "hub", "errors", "files"},
    "data": {"audio", "errors", "files"},
    "evaluation": {"audio", "data", "hub", "separation", "errors", "files"},
    "separation": {"models", "checkpoints", "audio", "errors", "files"},
    "training": {"layers", "models", "checkpoints", "data", "audio", "separation", "evaluation", "errors", "files"},
}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_import_direction(package):
    for path in (SOURCE / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                names = {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
                assert names <= ALLOWED[package], f"{path.name} imports {names - ALLOWED[package]}"


@pytest.mark.parametrize("module", ["bss_eval", "metrics", "oracle"])
def test_metrics_need_only_numpy_and_torch(module):
    tree = ast.parse((SOURCE / "evaluation" / f"{module}.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name if isinstance(node, ast.Import) else node.module for node in imports for alias in node.names}
    assert {name.split(".")[0] for name in names} <= {"numpy", "torch", *sys.stdlib_module_names}


@pytest.mark.parametrize("module", ["frame_transformer", "frame_transformer.cli"])
def test_import_leaves_torch_alone(module):
    code = f"import sys, {module}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("folder", "other"),
    [("tests", "benchmarks"), ("benchmarks", "tests"), ("examples", "tests"), ("reference", "tests")],
)
def test_tests_and_benchmarks_do_not_import_each_other(folder, other):
    """What both need lies in ``reference/`` or ``examples/``; ``tests/benchmarks`` imports what it tests."""
    root = SOURCE.parent.parent
    for path in (root / folder).rglob("*.py"):
        if not path.is_relative_to(root / "tests/benchmarks"):
            for node in ast.walk(ast.parse(path.read_text())):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    modules.append(node.module or "")
                assert not [name for name in modules if name.split(".")[0] == other], path
