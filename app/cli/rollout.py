"""`millrace rollout …`: start, watch and steer rollouts, and go back to an earlier version."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from app.cli.feature_output import console, print_json
from app.cli.project_option import FLIGHTS, JsonOption, ProjectOption
from app.cli.rollout_view import rollout_panel
from app.foundation.access import headers_for_a_while
from app.foundation.access.scopes import ROLLOUT
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.models.registered import require_registered
from app.rollout.operations import RolloutOperations, RolloutView
from app.serving.address import model_url
from app.serving.live_check import wait_live
from app.settings import Settings, load_settings
from app.spec import Project

FOLLOW_TIMEOUT_S = 60.0
WATCH_EVERY_S = 1.0

rollout = typer.Typer(no_args_is_help=True, help="Rollouts of a project's model: start, watch, steer, go back.")
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="kept with the change")]


@rollout.command()
def start(version: str, project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Begins to roll a registered version out by the project's policy."""
    settings = load_settings()
    require_registered(settings, load_project(project).name, version)
    _show(_operations(project, settings).start(version), as_json)


@rollout.command()
def status(project: ProjectOption = FLIGHTS, rollout_id: str = "", as_json: JsonOption = False) -> None:
    """Shows the rollout in flight, else the last one."""
    _show(_operations(project, load_settings()).status(rollout_id or None), as_json)


@rollout.command()
def watch(project: ProjectOption = FLIGHTS, rollout_id: str = "") -> None:
    """Follows a rollout live until it is over."""
    operations = _operations(project, load_settings())
    followed = rollout_id or operations.status().state.rollout_id
    with Live(console=console, refresh_per_second=4) as live:
        for view in operations.watch(followed, WATCH_EVERY_S):
            live.update(rollout_panel(view), refresh=True)


@rollout.command()
def pause(project: ProjectOption = FLIGHTS, reason: ReasonOption = "paused", as_json: JsonOption = False) -> None:
    """Keeps the weight where it is until `resume`."""
    _show(_operations(project, load_settings()).pause(reason), as_json)


@rollout.command()
def resume(project: ProjectOption = FLIGHTS, reason: ReasonOption = "resumed", as_json: JsonOption = False) -> None:
    """Starts the paused step again, its analysis too."""
    _show(_operations(project, load_settings()).resume(reason), as_json)


@rollout.command()
def promote(project: ProjectOption = FLIGHTS, reason: ReasonOption = "promoted", as_json: JsonOption = False) -> None:
    """Makes the candidate champion now, and waits until every replica answers with it."""
    settings = load_settings()
    operations = _operations(project, settings)
    _finish(operations, settings, operations.promote(reason), load_project(project), as_json)


@rollout.command()
def abort(project: ProjectOption = FLIGHTS, reason: ReasonOption = "aborted", as_json: JsonOption = False) -> None:
    """Takes all traffic from the candidate, for good, and waits until every replica has."""
    settings = load_settings()
    operations = _operations(project, settings)
    _finish(operations, settings, operations.abort(reason), load_project(project), as_json)


@rollout.command()
def rollback(
    version: Annotated[str, typer.Argument(help="default: the champion before this one")] = "",
    project: ProjectOption = FLIGHTS,
    reason: ReasonOption = "rolled back",
    as_json: JsonOption = False,
) -> None:
    """Goes back to an earlier version in one step, verified on live answers of every replica."""
    settings = load_settings()
    operations = _operations(project, settings)
    if version:
        require_registered(settings, load_project(project).name, version)
    _finish(operations, settings, operations.rollback(version or None, reason), load_project(project), as_json)


@rollout.command()
def history(project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Lists every rollout of the model."""
    operations = _operations(project, load_settings())
    found = operations.history()
    if as_json:
        return print_json([operations.status(state.rollout_id).to_json() for state in found])
    table = Table("rollout", "strategy", "from", "to", "phase", "started", "ended", "reason")
    for s in found:
        ended = "" if s.finished_at is None else f"{s.finished_at:%Y-%m-%d %H:%M:%S}"
        started = f"{s.started_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            s.rollout_id, s.policy.strategy, s.champion, s.candidate, s.phase.value, started, ended, s.reason
        )
    console.print(table)


def _operations(project_ref: str, settings: Settings) -> RolloutOperations:
    project = load_project(project_ref)
    return RolloutOperations(
        StateDatabase.open(settings.state_url), project.name, project.rollout, principal=settings.principal
    )


def _finish(
    operations: RolloutOperations, settings: Settings, asked: RolloutView, project: Project, as_json: bool
) -> None:
    """Waits for the end, then for live answers. The registry's alias is the driver's to move, where one lives."""
    view = operations.drive(asked.state.rollout_id, FOLLOW_TIMEOUT_S)
    database = StateDatabase.open(settings.state_url)
    with headers_for_a_while(settings, database, (ROLLOUT,), "millrace rollout") as headers:
        live = wait_live(
            model_url(settings, project.serving), version=view.route.champion, epoch=view.route.epoch,
            replicas=[a.replica_id for a in view.champions], timeout_s=FOLLOW_TIMEOUT_S, headers=headers,
        )
    if not view.driver_alive:
        from app.models.registry import ModelRegistry

        ModelRegistry(settings).set_alias(view.state.model, "champion", view.route.champion)
    _show(view, as_json)
    if not as_json:
        console.print(
            f"{len(live.epochs)} replicas answer with version {view.route.champion} at epoch {view.route.epoch}"
        )


def _show(view: RolloutView, as_json: bool) -> None:
    print_json(view.to_json()) if as_json else console.print(rollout_panel(view))
