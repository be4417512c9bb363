"""A view's meaning holds everything of its own package that its transform reaches."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from app.features.function_code import code_of

MODULE = """
import math
from functools import wraps
LIMIT = 3
NAMES = frozenset({"a", "b", "c", "d"})
RATES = {"x": [1.0, 2.0]}
UNUSED = 1

class Rule:
    factor = 2
    def apply(self, x):
        return deep(x) * self.factor

def deep(x):
    return x + LIMIT

def shallow(x):
    return deep(x)

def unused(x):
    return x

def logged(function):
    @wraps(function)
    def inner(x):
        return function(x)
    return inner

@logged
def decorated(x):
    return shallow(x)

def made(kind):
    return lambda x: kind(x)

def recursive(x):
    return recursive(x - 1) if x else math.pi

def transform(x):
    return [shallow(v) for v in x if v in NAMES and RATES]

uses_class = lambda x: Rule().apply(x)
captured = made(shallow)
"""


def module(folder: Path, text: str) -> ModuleType:
    path = folder / "rules.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("rules", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


CHANGES = {
    "helper of a helper": ("return x + LIMIT", "return x - LIMIT"), "constant": ("LIMIT = 3", "LIMIT = 4"),
    "set": ('"c", "d"', '"c", "e"'), "nested constant": ("[1.0, 2.0]", "[1.0, 2.5]"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_transform_reaches_is_part_of_it(tmp_path: Path, change: str) -> None:
    assert differs(tmp_path, change, lambda m: code_of(m.transform))


@pytest.mark.parametrize("name", ["decorated", "uses_class", "captured"])
def test_what_is_reached_by_other_ways_is_part_of_it(tmp_path: Path, name: str) -> None:
    assert differs(tmp_path, "helper of a helper", lambda m: code_of(getattr(m, name)))
    assert differs(tmp_path, "constant", lambda m: code_of(partial(getattr(m, name), 1)))


def differs(folder: Path, change: str, text_of: Callable[[ModuleType], str]) -> bool:
    before, after = MODULE, MODULE.replace(*CHANGES[change])
    assert before != after
    first, second = text_of(module(folder, before)), text_of(module(folder, after))
    return first != second


def test_what_it_does_not_reach_is_not(tmp_path: Path) -> None:
    changed = MODULE.replace("UNUSED = 1", "UNUSED = 2").replace("unused(x):\n    return x", "unused(x):\n    pass")
    assert code_of(module(tmp_path, MODULE).transform) == code_of(module(tmp_path, changed).transform)


def test_a_function_that_calls_itself_has_an_end(tmp_path: Path) -> None:
    assert "math.pi" in code_of(module(tmp_path, MODULE).recursive)


def test_every_process_says_the_same(tmp_path: Path) -> None:
    module(tmp_path, MODULE)
    script = "import rules; from app.features.function_code import code_of; print(code_of(rules.transform))"
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}", "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
