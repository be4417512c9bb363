"""Loads the user's project by its import path; only the path travels between processes."""

from __future__ import annotations

import sys
from pathlib import Path

from app.errors import ProjectError
from app.foundation.import_path import resolve
from app.spec import Project


def load_project(reference: str) -> Project:
    """The `Project` at `module:NAME`, looked for on the Python path and in the working folder.

    Raises:
        ProjectError: it cannot be found or imported, or is not a `Project`.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found = resolve(reference)
    if not isinstance(found, Project):
        raise ProjectError(f"{reference!r} is a {type(found).__name__}; expected an app.spec.Project.", path=reference)
    return found
