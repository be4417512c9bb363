"""`millrace`: the command line.

millrace demo    the whole loop in a private Ray, then the report
millrace up      the platform, kept running          millrace down    stop it
millrace submit  a job to a cluster, with its provenance packed
millrace status  the current run
millrace environment  what a shell evaluates before `ray start`
millrace reproduce  a recorded run, trained again from its record and compared
millrace tokens  create, list, revoke: who may use the HTTP interface, and for what
millrace predictions maintain  delete what was logged longer ago than the project keeps
millrace features …  definitions (plan, apply, versions, diff, rollback, lineage, impact, delete, docs …) and rows
                     (materialize, push, get-historical, get-online …); `millrace features --help`
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated

import typer

from app.cli.lazy_group import LazyGroup
from app.cli.project_option import FLIGHTS, ProjectOption
from app.errors import MillraceError
from app.foundation.telemetry.quiet import quiet_libraries
from app.settings import load_settings

# Commands import what they run themselves: each pays for its own libraries only.
app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(project: ProjectOption = FLIGHTS) -> None:
    """Runs the whole loop in a private Ray and writes report.html; leaves no process behind.

    It is for trying things out: uncommitted changes are recorded, where a job would refuse them, and its HTTP interface
    asks nobody for a token.
    """
    from app.assembly.job import execute
    from app.assembly.loop import run_loop

    typer.echo("The demo's HTTP interface asks nobody for a token; `millrace up` does (see docs/serving.md).")
    raise typer.Exit(execute(project, run_loop, allow_dirty=True, open_access=True))


@app.command()
def up(project: ProjectOption = FLIGHTS) -> None:
    """Starts Ray with its dashboard and the project's application, and keeps them running."""
    from app.assembly.platform import start_platform

    start_platform(project, load_settings())


@app.command()
def down() -> None:
    """Stops what `millrace up` started."""
    from app.assembly.platform import stop_platform

    stop_platform(load_settings())


@app.command()
def environment() -> None:
    """Prints the variables that Ray must be started with: `eval "$(millrace environment)"`, then `ray start`."""
    from app.assembly.ray_environment import export_lines

    typer.echo(export_lines(load_settings(in_job=False)))


@app.command()
def status(project: ProjectOption = FLIGHTS) -> None:
    """Shows the steps of the project's newest run and the decisions taken."""
    from app.assembly.status import print_status

    print_status(project, load_settings())


@app.command()
def reproduce(
    run: Annotated[str, typer.Argument(help="a model version, or the id of a training run or its MLflow run")],
    project: ProjectOption = FLIGHTS,
) -> None:
    """Trains a recorded run again and says whether the same model came out; exit code 2 when it did not."""
    from app.assembly.job import execute
    from app.pipeline.reproduce import reproduce_run

    raise typer.Exit(execute(project, partial(reproduce_run, reference=run), allow_dirty=True, begin=False))


@app.command()
def submit(
    verb: Annotated[str, typer.Argument(help="a job in jobs/, e.g. ingest, train, loop")],
    arguments: Annotated[list[str] | None, typer.Argument(help="the job's own, as in `submit reproduce 3`")] = None,
    project: ProjectOption = FLIGHTS,
    address: Annotated[str, typer.Option(help="the cluster's dashboard")] = "http://127.0.0.1:8265",
    home: Annotated[str, typer.Option(help="MILLRACE_HOME on the cluster, absolute")] = "",
    allow_dirty: Annotated[bool, typer.Option("--allow-dirty", help="train from uncommitted code too")] = False,
) -> None:
    """Submits jobs/VERB.py as `ray job submit` would, with commit, diff and lock hash packed along.

    Options of the job itself stand behind `--`: `millrace submit backfill -- --views NAME`.
    """
    from app.assembly.submit import submit_job

    home = home or str(load_settings(in_job=False).home)
    raise typer.Exit(submit_job(verb, project, address, home, arguments or [], allow_dirty=allow_dirty))


def main() -> None:
    """Entry point: errors a user can mend end with one message and exit code 2."""
    quiet_libraries()
    try:
        app()
    except MillraceError as error:
        typer.echo(f"error [{error.code}]: {error.message}", err=True)
        sys.exit(2)

