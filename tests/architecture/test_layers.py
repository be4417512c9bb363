"""The layout holds: import direction, file sizes, names, one reader of the environment, examples that run."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "app"
FILES = sorted(APP.rglob("*.py"))
MAX_LINES = 400
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "core"}
ENVIRONMENT_READERS = {
    APP / "settings.py",
    APP / "assembly" / "runtime.py",  # RAY_ADDRESS: Ray's own variable, which says whether this process is in a job
}
SETTERS = {"update", "setdefault"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def environment_reads(source: str) -> list[int]:
    """Lines that read the environment. Setting a variable, or handing the whole on to a child process, is no read.

    >>> environment_reads("import os\\nos.environ['A'] = '1'\\nchild = {**os.environ}\\nos.environ.update({})")
    []
    >>> environment_reads("import os\\nos.getenv('A')\\n'B' in os.environ\\nos.environ['C']\\nos.environ.get('D')")
    [2, 3, 4, 5]
    >>> environment_reads("from os import environ, path")
    [1]
    """
    tree = ast.parse(source)
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            allowed.add(node.value)
        elif isinstance(node, ast.Dict):
            allowed.update(value for key, value in zip(node.keys, node.values, strict=True) if key is None)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            function = node.value.func
            if isinstance(function, ast.Attribute) and function.attr in SETTERS:
                allowed.add(function.value)
    reads = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv", "os.getenvb")
        and node not in allowed
    ]
    imported = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == "os"
        and any(alias.name in ("environ", "environb", "getenv", "getenvb") for alias in node.names)
    ]
    return sorted(reads + imported)


def test_imports_point_down_only() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(linter)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_small_and_named_after_what_it_owns(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert not EMPTY_NAMES & {path.stem, *path.parent.relative_to(ROOT).parts}


@pytest.mark.parametrize("path", [f for f in FILES if f not in ENVIRONMENT_READERS], ids=name_of)
def test_only_settings_reads_the_environment(path: Path) -> None:
    lines = environment_reads(path.read_text())
    assert not lines, f"{name_of(path)} reads the environment in lines {lines}; use app/settings.py"


def test_the_check_of_environment_reads_sees_them() -> None:
    assert doctest.testmod(sys.modules[__name__]).failed == 0
    assert environment_reads((APP / "settings.py").read_text())


@pytest.mark.parametrize("path", [f for f in FILES if ">>> " in f.read_text()], ids=name_of)
def test_examples_in_docstrings_run(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
