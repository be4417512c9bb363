"""Which input columns each output of a transform comes from, read off its code. Pure.

What is found is exact for the forms that transforms are written in: `frame.assign(name=…)`, `frame["name"] = …` and
`{"name": …}` for a new frame. An output that none of these gives comes from the column of its own name; where there is
none, or the code cannot be read, from every column: too much, never too little. Code that names columns in texts
(`eval`, `query`), changes them in place (`*=`) or sets them through `.loc` counts as unreadable.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Input columns of one output. `rows`: columns that decide which rows there are. `exact`: read off the code."""

    columns: tuple[str, ...]
    rows: tuple[str, ...] = ()
    exact: bool = True


def origins(code: str | None, outputs: Sequence[str], inputs: Sequence[str]) -> dict[str, Origin]:
    """The origin of each output.

    Args:
        code: source text of the transform, `None` without one: then an output is the input of its name.
        outputs: names of the columns it gives.
        inputs: names of the columns it gets.

    >>> code = 'def f(rows):\\n    return rows[rows["open"]].assign(twice=rows["price"] * 2)'
    >>> origins(code, ["twice", "price"], ["price", "open"])["twice"]
    Origin(columns=('price',), rows=('open',), exact=True)
    """
    everything = Origin(tuple(inputs), exact=False)
    if code is None:
        return {name: Origin((name,)) if name in inputs else everything for name in outputs}
    tree = _parsed(code)
    if tree is None or _beyond_reading(tree):
        return dict.fromkeys(outputs, everything)
    parsed = _Code(frozenset(inputs), _parameters(tree), _given_columns(tree), _local_variables(tree))
    elsewhere = _rows_columns(tree, [*parsed.given.values(), *parsed.local.values()], inputs)
    found = {}
    handed_on = _hands_frame_on(tree, parsed.frames)
    for name in outputs:
        columns = None if handed_on and name not in parsed.given else parsed.of_column(name)
        if columns is None:
            found[name] = everything
        else:
            rows = tuple(c for c in elsewhere if c not in columns)
            found[name] = Origin(tuple(c for c in inputs if c in columns), rows)
    return found


def _parsed(code: str) -> ast.Module | None:
    """The code as a tree; a lambda's text or byte code is none, and neither is a `partial`'s with its arguments."""
    try:
        tree = ast.parse(textwrap.dedent(code))
    except SyntaxError:
        return None
    return tree if any(isinstance(node, ast.FunctionDef) for node in tree.body) else None


UNREADABLE_CALLS = frozenset({"eval", "query", "exec", "setattr", "insert", "update", "rename"})


def _beyond_reading(tree: ast.Module) -> bool:
    """Whether columns are named in texts, changed in place, or set through `.loc` and the like."""
    return any(_is_beyond_reading(node) for node in ast.walk(tree))


def _is_beyond_reading(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return getattr(node.func, "attr", getattr(node.func, "id", None)) in UNREADABLE_CALLS
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        return not (isinstance(node.value, ast.Name) and isinstance(node.slice, ast.Constant))
    return isinstance(node, ast.AugAssign)


def _parameters(tree: ast.Module) -> frozenset[str]:
    return frozenset(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))


def _local_variables(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """The expressions that give each variable, those unpacked from one expression included."""
    local: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in (name for t in node.targets for name in ast.walk(t) if isinstance(name, ast.Name)):
                if isinstance(target.ctx, ast.Store):
                    local.setdefault(target.id, []).append(node.value)
    return local


def _given_columns(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """The expressions that give each named column."""
    given: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "assign":
            for keyword in node.keywords:
                if keyword.arg is not None:
                    given.setdefault(keyword.arg, []).append(keyword.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    given.setdefault(key.value, []).append(value)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                    given.setdefault(str(target.slice.value), []).append(node.value)
    return given


@dataclass(frozen=True)
class _Code:
    """A transform's names: `frames` are its parameters, `given` its output columns, `local` its other variables."""

    inputs: frozenset[str]
    frames: frozenset[str]
    given: dict[str, list[ast.expr]]
    local: dict[str, list[ast.expr]]

    def of_column(self, name: str, seen: frozenset[str] = frozenset()) -> set[str] | None:
        """Inputs a column comes from, through columns computed on the way; `None` when that cannot be told."""
        if name not in self.given or name in seen:
            return {name} if name in self.inputs else None
        return self._all(self.given[name], seen | {name})

    def _all(self, nodes: Iterable[ast.AST], seen: frozenset[str]) -> set[str] | None:
        found: set[str] = set()
        for node in nodes:
            below = self._of(node, seen)
            if below is None:
                return None
            found |= below
        return found

    def _of(self, node: ast.AST, seen: frozenset[str]) -> set[str] | None:
        if isinstance(node, ast.Name):
            if node.id in self.frames:
                return None  # the frame as a whole: any of its columns
            return self._all(self.local[node.id], seen | {node.id}) if node.id in self.local.keys() - seen else set()
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            names = [c.value for c in ast.walk(node.slice) if isinstance(c, ast.Constant) and isinstance(c.value, str)]
            return self._columns(names, seen) if names else None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in self.inputs or node.attr in self.given:
                return self._columns([node.attr], seen)
            return self._of(node.value, seen)
        return self._all(ast.iter_child_nodes(node), seen)

    def _columns(self, names: Iterable[str], seen: frozenset[str]) -> set[str] | None:
        found: set[str] = set()
        for name in names:
            below = self.of_column(name, seen)
            if below is None:
                return None
            found |= below
        return found


def _hands_frame_on(tree: ast.Module, frames: Collection[str]) -> bool:
    """Whether another function gets the whole frame, and may change any column of it."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(a, ast.Name) and a.id in frames for call in calls for a in call.args)


def _rows_columns(
    tree: ast.Module, expressions: Iterable[list[ast.expr]], inputs: Collection[str]
) -> tuple[str, ...]:
    """Inputs named outside the expressions that give columns and variables: filters, sorting, grouping."""
    inside = {id(node) for several in expressions for e in several for node in ast.walk(e)}
    found = []
    for node in ast.walk(tree):
        if id(node) in inside:
            continue
        if isinstance(node, ast.Constant) and node.value in inputs:
            found.append(str(node.value))
        elif isinstance(node, ast.Attribute) and node.attr in inputs:
            found.append(node.attr)
    return tuple(dict.fromkeys(found))
