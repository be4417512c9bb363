"""`millrace`: the command line.

millrace demo    the whole loop in a private Ray, then the report
millrace up      the platform, kept running          millrace down    stop it
millrace submit  a job to a cluster, with its provenance packed
millrace features plan|apply|describe               millrace status  the current run
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated

import typer

from app.assembly.job import execute, quiet_libraries
from app.assembly.loop import run_loop
from app.assembly.platform import start_platform, stop_platform
from app.assembly.status import print_status
from app.assembly.submit import submit_job
from app.errors import MillraceError
from app.features.quarantine import quarantine_counts
from app.features.store import FeatureStore
from app.settings import load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
features = typer.Typer(no_args_is_help=True, help="Feature views: what is declared and registered.")
app.add_typer(features, name="features")

ProjectOption = Annotated[str, typer.Option("--project", metavar="MODULE:NAME", help="where the project is")]
FLIGHTS = "app.project:PROJECT"


@app.command()
def demo(project: ProjectOption = FLIGHTS) -> None:
    """Runs the whole loop in a private Ray and writes report.html; leaves no process behind."""
    raise typer.Exit(execute(project, run_loop))


@app.command()
def up(project: ProjectOption = FLIGHTS) -> None:
    """Starts Ray with its dashboard and the project's application, and keeps them running."""
    start_platform(project, load_settings())


@app.command()
def down() -> None:
    """Stops what `millrace up` started."""
    stop_platform(load_settings())


@app.command()
def status(project: ProjectOption = FLIGHTS) -> None:
    """Shows the steps of the project's newest run and the decisions taken."""
    print_status(project, load_settings())


@app.command()
def submit(
    verb: Annotated[str, typer.Argument(help="a job in jobs/, e.g. ingest, train, loop")],
    project: ProjectOption = FLIGHTS,
    address: Annotated[str, typer.Option(help="the cluster's dashboard")] = "http://127.0.0.1:8265",
    home: Annotated[str, typer.Option(help="MILLRACE_HOME on the cluster, absolute")] = "",
) -> None:
    """Submits jobs/VERB.py as `ray job submit` would, with commit, diff and lock hash packed along."""
    raise typer.Exit(submit_job(verb, project, address, home or str(load_settings(in_job=False).home)))


@features.command()
def plan(project: ProjectOption = FLIGHTS) -> None:
    """Shows what `apply` would change."""
    for change in FeatureStore.open(project).plan():
        typer.echo(change)


@features.command()
def apply(project: ProjectOption = FLIGHTS) -> None:
    """Registers the project's definitions; a change of meaning makes a new version."""
    for change in FeatureStore.open(project).apply():
        typer.echo(change)


@features.command()
def describe(view: str, project: ProjectOption = FLIGHTS) -> None:
    """Shows a view: owner, fields, versions, rows, freshness."""
    for name, value in FeatureStore.open(project).describe(view).items():
        typer.echo(f"{name}: {value}")


@features.command()
def sweep(
    project: ProjectOption = FLIGHTS,
    older_than_h: Annotated[float, typer.Option(help="age in hours; longer than any write takes")] = 72.0,
) -> None:
    """Deletes files that failed or killed writes left beside the project's tables."""
    for result in FeatureStore.open(project).sweep(timedelta(hours=older_than_h)):
        if result.files or result.too_young:
            swept = f"{result.files} files, {result.size_bytes:,} bytes"
            typer.echo(f"{result.table}: {swept} swept; {result.too_young} files too young")


@features.command()
def quarantine(
    source: Annotated[str, typer.Argument(help="a source's name (default: all)")] = "", project: ProjectOption = FLIGHTS
) -> None:
    """Counts rows that broke an expectation, by source, view and reason."""
    rows = FeatureStore.open(project).quarantine(source or None)
    for (of, view, reason), n in quarantine_counts(rows).items():
        typer.echo(f"{of}{f' in view {view}' if view else ''}: {n:,} × {reason}")


def main() -> None:
    """Entry point: errors a user can mend end with one message and exit code 2."""
    quiet_libraries()
    try:
        app()
    except MillraceError as error:
        typer.echo(f"error [{error.code}]: {error.message}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
