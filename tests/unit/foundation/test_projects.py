"""A project that cannot be loaded is explained in one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ProjectError, SettingsError
from app.foundation.projects import load_project
from app.settings import load_settings


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("app.project", "expected 'module:name'"),
        ("no_such_module_here:PROJECT", "no module 'no_such_module_here'"),
        ("app.spec:NOTHING", "has no 'NOTHING'"),
        ("app.spec:Project", "expected an app.spec.Project"),
    ],
)
def test_a_reference_that_leads_nowhere_says_why(reference: str, message: str) -> None:
    with pytest.raises(ProjectError, match=message):
        load_project(reference)


def test_an_error_inside_the_module_is_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_project.py").write_text("x = 1\nraise ValueError('boom')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProjectError, match=r"broken_project\.py:2: ValueError: boom"):
        load_project("broken_project:PROJECT")


def test_a_relative_home_is_refused_inside_a_job() -> None:
    with pytest.raises(SettingsError, match="absolute path"):
        load_settings({"MILLRACE_HOME": ".millrace"}, in_job=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = 1\nx = = 2\n", r"user_project\.py:2: SyntaxError"),
        ("import user_project_extra_dependency\n", r"user_project\.py:1: ModuleNotFoundError"),
        ("import user\n", r"user_project\.py:1: ModuleNotFoundError: No module named 'user'"),
        ("from datetime import datetime\n\ndatetime(2013, 1, 32)\n", r"user_project\.py:3: ValueError"),
        ("from app.spec import Entity\nfrom app.foundation.import_path import resolve\nresolve('x')\n", r"py:3: "),
    ],
)
def test_the_line_that_is_named_is_the_users_own(
    content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "user_project.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ProjectError, match=message):
        load_project("user_project:PROJECT")
