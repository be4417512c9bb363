"""A run's steps and decisions for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from app.clock import WallClock
from app.console.report import step_table
from app.foundation.lineage.decisions import decisions_of
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.pipeline.run import LoopRunLog
from app.settings import Settings


def print_status(project_ref: str, settings: Settings) -> None:
    """Prints the newest run of the project.

    Raises:
        UnknownNameError: it has never been run here.
    """
    database = StateDatabase.open(settings.state_url)
    run = LoopRunLog.latest(database, WallClock(), load_project(project_ref).name)
    console = Console()
    console.print(f"run {run.run_id}")
    console.print(step_table(run.durations_s()))
    table = Table("event time", "who", "decision", "reason", title="Decisions", title_justify="left")
    for d in decisions_of(database, run.run_id):
        table.add_row("" if d.event_at is None else f"{d.event_at:%Y-%m-%d %H:%M}", d.actor, d.decision, d.reason)
    console.print(table)
