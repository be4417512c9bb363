"""A loop that is killed goes on, a second one goes through, and neither leaves a process behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import load_settings
from tests.e2e.conftest import ROOT, environment_of

COMMAND = [sys.executable, "-m", "app.cli", "demo", "--project", "tests.projects.prices:PROJECT"]
KILL_TIMEOUT_S = 400.0


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    """The demo of the prices project."""
    return subprocess.Popen(
        COMMAND, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def runs(environment: dict[str, str]) -> list[tuple[str, str]]:
    """Every run of the home with its status, oldest first."""
    database = StateDatabase.open(load_settings(environment, in_job=False).state_url)
    with database.session() as session:
        return [(r.run_id, r.status) for r in session.scalars(sa.select(m.LoopRun).order_by(m.LoopRun.started_at))]


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that know this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MILLRACE_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200])
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def started_in_replay(environment: dict[str, str]) -> subprocess.Popen[str]:
    """A demo whose first window is behind it."""
    demo = start(environment)
    assert demo.stdout is not None
    deadline = time.monotonic() + KILL_TIMEOUT_S
    for line in demo.stdout:
        assert time.monotonic() < deadline
        if re.search(r"Live replay: [1-9]", line):
            return demo
    raise AssertionError("the demo ended before its replay")


@pytest.mark.full
@pytest.mark.timeout(600)
def test_ctrl_c_in_the_replay_ends_everything_and_says_how_to_go_on(tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    demo = started_in_replay(environment)
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=KILL_TIMEOUT_S)
    assert demo.returncode == 130, output[-4_000:]
    assert "run the same command again to go on" in output and "Traceback" not in output
    assert processes_of(tmp_path) == []


@pytest.mark.full
@pytest.mark.timeout(900)
def test_killed_in_the_replay_it_goes_on_and_a_second_run_goes_through(tmp_path: Path) -> None:
    environment = environment_of(tmp_path)
    killed = started_in_replay(environment)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [status for _, status in runs(environment)] == ["running"]

    again = start(environment)
    output, _ = again.communicate(timeout=KILL_TIMEOUT_S)
    assert again.returncode == 0, output[-4_000:]
    assert "train: done before" in output
    assert [status for _, status in runs(environment)] == ["succeeded"]
    assert processes_of(tmp_path) == []

    second = start(environment)
    output, _ = second.communicate(timeout=KILL_TIMEOUT_S)
    assert second.returncode == 0, output[-4_000:]
    assert [status for _, status in runs(environment)] == ["succeeded", "succeeded"]
    assert processes_of(tmp_path) == []
