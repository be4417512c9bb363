"""The whole loop: each step once, whatever happened before."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from app.assembly.application import deploy
from app.assembly.report import write_run_report
from app.assembly.rollout_api import deploy_rollout_api
from app.assembly.rollout_driver import start_rollout_driver
from app.pipeline.fit import sweep_parameters, train_first
from app.pipeline.live import replay_history
from app.pipeline.prepare import backfill_features, ingest_sources
from app.pipeline.run import Output
from app.pipeline.session import Session
from app.rollout.controller import RolloutController
from app.serving.routing import RoutingTable

STEPS: tuple[tuple[str, Callable[[Session], None]], ...] = (
    ("ingest", ingest_sources),
    ("backfill", backfill_features),
    ("sweep", sweep_parameters),
    ("train", train_first),
)


def run_loop(session: Session) -> None:
    """Runs what the run has not done yet; a run that was killed goes on where it was."""
    session.progress.line(f"run {session.run_id}")
    for name, verb in STEPS:
        if session.run.output(name) is None:
            verb(session)
        else:
            session.progress.line(f"{name}: done before")
    deploy_champion(session)
    replay_history(session)
    write_run_report(session)


def deploy_champion(session: Session) -> None:
    """Brings the application up; the first time in a run, with the run's first model as champion."""
    version = session.run.require("train", "train")["version"]

    def action() -> Output:
        with session.progress.step("Deploy", total=1) as step:
            if session.run.output("deploy") is None:
                _install_first_champion(session, version)
            route = deploy(session.project_ref, session.settings)
            if session.run.output("deploy") is None:
                _end_rollout_left_over(session)
            step.advance(1, f"version {route.champion} answers at {session.settings.http_url}")
        return {"version": version}

    session.run.perform("deploy", action)


def deploy_platform(session: Session) -> None:
    """Brings the application up, the driver that moves its rollouts on by the wall clock, and their HTTP interface.

    Whoever is the champion by the traffic answers, whichever run made it; the first time it is this run's first model.
    """
    if RoutingTable(session.database).find(session.project.name) is None:
        deploy_champion(session)
    else:
        deploy(session.project_ref, session.settings)
    deploy_rollout_api(session.project_ref, session.settings)
    start_rollout_driver(session.project_ref, session.settings, session.project.serving.least_replicas)


def _install_first_champion(session: Session, version: str) -> None:
    model, routing = session.project.name, RoutingTable(session.database)
    route = routing.find(model)
    epoch = 0 if route is None else route.epoch
    routing.write(model, epoch, champion=version, reason=f"first model of {session.run_id}")


def _end_rollout_left_over(session: Session) -> None:
    """A rollout that an earlier run left finds its champion replaced and aborts."""
    controller = RolloutController(session.database, RoutingTable(session.database), session.project.rollout)
    left = controller.record.in_flight(session.project.name)
    if left is not None:
        controller.tick(left.rollout_id, session.project.timeline.validation_end, pl.DataFrame())
