"""`millrace predictions …`: the log of what was answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import typer
from rich.console import Console

from app.cli.project_option import FLIGHTS, ProjectOption
from app.errors import ProjectError
from app.foundation.lake import Lake
from app.foundation.projects import load_project
from app.predictionlog.retention import forget_old
from app.settings import load_settings

predictions = typer.Typer(no_args_is_help=True, help="the log of predictions, labels and mirrored answers")


@predictions.callback()
def _group() -> None:
    """The log of predictions, labels and mirrored answers."""


@predictions.command()
def maintain(project: ProjectOption = FLIGHTS) -> None:
    """Deletes what was logged longer ago than the project's serving policy keeps; meant to be called daily."""
    found = load_project(project)
    kept: timedelta | None = found.serving.log_kept
    if kept is None:
        raise ProjectError(
            f"project {found.name!r} keeps its prediction log for good. Expected e.g. "
            "Project(serving=ServingPolicy(log_kept=timedelta(days=90))).", project=found.name,
        )
    for gone in forget_old(Lake.open(load_settings()), found.name, kept, datetime.now(UTC)):
        Console().print(
            f"{gone.table}: {gone.rows:,} rows older than {kept} deleted; {gone.snapshots:,} snapshots forgotten; "
            f"{gone.files:,} files, {gone.size_bytes:,} bytes swept", markup=False, highlight=False, soft_wrap=True,
        )
