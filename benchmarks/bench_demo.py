"""How long the demo takes, by step: `make bench-demo` (QUICK=1: the tiny project instead of the flights).

Runs the whole loop in a fresh home and reads the seconds of each step from the run's own record; `--home` reads the
newest run of a home where the demo has run. The peer is the budget of 10 minutes, so `ratio` is budget over measured:
higher is better.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from matplotlib.figure import Figure
from rich.console import Console

from app.assembly.report import grouped_durations_s
from app.clock import WallClock
from app.console.report import step_table
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.pipeline.run import LoopRunLog
from app.settings import load_settings
from benchmarks.record import code_state

BUDGET_S = 600.0
RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measures, prints the table, writes JSON and plot, ends with the ratio line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--home", help="read the newest run of this home instead of running the demo")
    options = parser.parse_args()
    quick = options.quick
    project = "tests.projects.tiny:PROJECT" if quick else "app.project:PROJECT"
    if options.home is not None:
        steps = steps_of({**os.environ, "MILLRACE_HOME": options.home})
        total_s = sum(seconds for _, seconds in steps)
    else:
        with tempfile.TemporaryDirectory() as home:
            environment = {**os.environ, "MILLRACE_HOME": home}
            started_s = time.monotonic()
            subprocess.run(
                [sys.executable, "-m", "app.cli", "demo", "--project", project], env=environment, cwd=ROOT, check=True
            )
            total_s = time.monotonic() - started_s
            steps = steps_of(environment)
    subject = "demo-quick" if quick else "demo"
    Console().print(step_table(steps))
    print(f"whole command: {total_s:.0f} s")
    RESULTS.mkdir(exist_ok=True)
    record = {
        "subject": "demo",
        "project": project,
        "total_s": total_s,
        "budget_s": BUDGET_S,
        "steps_s": dict(steps),
        "hardware": {"cpus": os.cpu_count()},
        "provenance": code_state(),
    }
    (RESULTS / f"{subject}.json").write_text(json.dumps(record, indent=1) + "\n")
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.barh([s[0] for s in steps][::-1], [s[1] for s in steps][::-1])
    axes.set_xlabel("seconds")
    figure.savefig(RESULTS / f"{subject}.svg")
    print(f"demo ratio={BUDGET_S / total_s:.2f} target=1.00 seconds={total_s:.0f}")


def steps_of(environment: dict[str, str]) -> list[tuple[str, float]]:
    """Seconds of each step of the newest run of a home."""
    database = StateDatabase.open(load_settings(environment).state_url)
    with database.session() as session:
        newest = sa.select(m.LoopRun.project).order_by(m.LoopRun.started_at.desc())
        name = session.scalars(newest).first()
    assert name is not None, "the home has no run"
    return grouped_durations_s(LoopRunLog.latest(database, WallClock(), name).durations_s())


if __name__ == "__main__":
    main()
