"""What a user's function does, as text: its meaning changes when the text does. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

SINGLE = (str, bytes, int, float, bool, date, timedelta, type(None))


def code_of(function: Callable[..., Any]) -> str:
    """Source text of a function with what it was given: a `partial`'s arguments, defaults and captured constants.

    Beside it that of what it reaches by name in its own package: functions and classes, those that these reach, and
    constants. Its byte code where there is no text. What it reaches in other packages, by a string, or through an
    object that is no module is not part of it.
    """
    if isinstance(function, partial):
        return f"{code_of(function.func)} {function.args!r} {sorted(function.keywords.items())!r}"
    reached: dict[str, str] = {}
    _reach(function, _package(function), reached)
    own = reached.pop(_name(function))
    return "".join([own, *(f"# where {name} is\n{text}" for name, text in sorted(reached.items()))])


def _reach(function: Any, package: str, found: dict[str, str]) -> None:
    """Adds a function or class, and what it reaches within the package, by name."""
    function = inspect.unwrap(function)
    if _name(function) in found:
        return
    found[_name(function)] = _own_text(function)
    for code, namespace in _codes(function):
        for name, named in _named(code, namespace):
            value = named
            if is_constant(value):
                found[f"{function.__module__}.{name}"] = f"{constant_text(value)}\n"
                continue
            if isinstance(value, partial):
                found[f"{function.__module__}.{name}"] = f"{value.args!r} {sorted(value.keywords.items())!r}\n"
                value = value.func
            if isinstance(value, FunctionType | type) and f"{_package(value)}.".startswith(f"{package}."):
                _reach(value, package, found)


def _named(code: CodeType, namespace: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a function's code names of its module, and of modules that it names."""
    for name in code.co_names:
        if name not in namespace:
            continue
        value = namespace[name]
        yield name, value
        if isinstance(value, ModuleType):
            yield from ((f"{value.__name__}.{n}", getattr(value, n)) for n in code.co_names if _is_code(value, n))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant, namespace)


def _is_code(module: ModuleType, name: str) -> bool:
    return isinstance(getattr(module, name, None), FunctionType | type)


def _codes(function: Any) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    """The code of a function, or of each method of a class, with the names of its module and what it captured."""
    for part in vars(function).values() if isinstance(function, type) else [function]:
        method = inspect.unwrap(getattr(part, "__func__", part)) if callable(part) else part
        if isinstance(method, FunctionType):
            captured = zip(method.__code__.co_freevars, method.__closure__ or (), strict=True)
            functions = {n: c.cell_contents for n, c in captured if isinstance(_content(c), FunctionType)}
            code = method.__code__.replace(co_names=(*method.__code__.co_names, *functions))
            yield code, {**method.__globals__, **functions}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _own_text(function: Any) -> str:
    code = getattr(function, "__code__", None)
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = _name(function) if code is None else _byte_code(code)
    cells = getattr(function, "__closure__", None) or ()
    captured = {
        name: _content(cell)
        for name, cell in zip(getattr(code, "co_freevars", ()), cells, strict=True)
        if is_constant(_content(cell))
    }
    return f"{text}# with {constant_text(captured)}\n" if captured else text


def is_constant(value: Any) -> bool:
    """Whether a value is data whose text says all of it."""
    if isinstance(value, dict):
        return all(is_constant(k) and is_constant(v) for k, v in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(is_constant, value))
    return isinstance(value, SINGLE)


def constant_text(value: Any) -> str:
    """A text that is the same in every process, which that of a set is not.

    >>> constant_text({"b", "a"})
    "{'a', 'b'}"
    """
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(constant_text, value))) + "}"
    if type(value) is dict:
        return "{" + ", ".join(f"{constant_text(k)}: {constant_text(v)}" for k, v in value.items()) + "}"
    if type(value) in (list, tuple):
        return repr(type(value)([]))[0] + ", ".join(map(constant_text, value)) + repr(type(value)([]))[-1]
    return repr(value)


def _package(function: Any) -> str:
    """The package of a function's module; a module that is in none is its own."""
    module = str(getattr(inspect.unwrap(function), "__module__", ""))
    return module.rpartition(".")[0] or module


def _name(function: Any) -> str:
    function = inspect.unwrap(function)
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def _byte_code(code: CodeType) -> str:
    """Instructions, names and constants; instructions alone are the same for `x * 2` and `x * 3`."""
    constants = [_byte_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names!r} {constants!r}"
