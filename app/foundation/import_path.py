"""Finds a Python object by its import path `module:name`."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

from app.errors import ProjectError


def resolve(path: str) -> Any:
    """The object `name` of `module`.

    Raises:
        ProjectError: not of the form `module:name`, no such module or name, or an error inside the module; the
            message gives file and line of that error.
    """
    module_name, separator, name = path.partition(":")
    if not (separator and module_name and name):
        raise ProjectError(f"{path!r} is not an import path; expected 'module:name'.", path=path)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ProjectError(_explain(module_name, error), path=path) from error
    if not hasattr(module, name):
        raise ProjectError(f"module {module_name!r} has no {name!r}; check the part after the colon.", path=path)
    return getattr(module, name)


def _explain(module_name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
        return (
            f"there is no module {module_name!r} on the Python path; expected e.g. 'app.project:PROJECT', "
            "run from the folder that holds it."
        )
    return f"module {module_name!r} failed to import{_place(error)}: {type(error).__name__}: {error}"


def _place(error: Exception) -> str:
    """The line of a module that was being imported: the user's line, not the library's deep below it."""
    if isinstance(error, SyntaxError):
        return f" at {error.filename}:{error.lineno}"
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    return f" at {lines[-1].filename}:{lines[-1].lineno}" if lines else ""
