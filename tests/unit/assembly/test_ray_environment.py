"""What a shell is told before `ray start`."""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.assembly.ray_environment import export_lines, ray_environment
from app.settings import load_settings


def test_a_shell_that_evaluates_the_lines_has_every_variable(tmp_path: Path) -> None:
    settings = load_settings({"MILLRACE_HOME": str(tmp_path / "a home; with 'quotes'")}, in_job=False)
    shown = subprocess.run(
        ["sh", "-c", 'eval "$LINES"; env -0'], env={"LINES": export_lines(settings), "PATH": "/bin"},
        capture_output=True, text=True, check=True,
    ).stdout
    found = dict(line.split("=", 1) for line in shown.split("\0") if "=" in line)
    expected = {**ray_environment(settings), "RAY_AUTH_MODE": "token", "MILLRACE_HOME": str(settings.home)}
    assert {name: found.get(name) for name in expected} == expected
    assert found["PATH"].endswith(":/bin")
