"""A command imports the libraries it needs, not those of every other command."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

from app.cli import app
from app.cli.lazy_group import GROUPS

HEAVY = ("ray", "torch", "whylogs", "pyiceberg", "sklearn", "deepspeed")


def test_rolling_back_waits_for_no_library_it_does_not_use() -> None:
    told = f"import sys, app.cli.rollout; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "[]"


def test_the_help_page_lists_commands_and_groups() -> None:
    page = CliRunner().invoke(app, ["--help"])
    assert page.exit_code == 0
    for name in ("demo", "up", "down", "status", "submit", "reproduce", *GROUPS):
        assert f" {name} " in page.stdout
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2


def test_each_group_has_its_own_help() -> None:
    for name in GROUPS:
        page = CliRunner().invoke(app, [name, "--help"])
        assert page.exit_code == 0 and "install-completion" not in page.stdout, page.output
