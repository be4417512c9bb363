"""Somebody holds the state database while a rollout runs under load: serving goes on, the rollout holds, nothing is
lost."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import ray

from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.lake import Lake
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.predictionlog.reader import read_predictions
from app.predictionlog.shipper import ship_all
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, RolloutView, driver_name
from app.settings import Settings
from tests.cluster.serving_app import NUM_REPLICAS, App, running_app, save_network
from tests.cluster.serving_project import LIVE
from tests.cluster.steady_load import SteadyLoad

REF = "tests.cluster.serving_project:LIVE"
# Judged three times, so that it is not over before the database is locked.
PATIENT = replace(LIVE.rollout, metrics=(replace(LIVE.rollout.metrics[0], count=3),))
LOCKED_S, DURATION_S, PER_S = 20.0, 40.0, 100.0
WAIT_S = 60.0


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("locked"), REF, save=save_network) as running:
        start_rollout_driver(REF, running.settings, NUM_REPLICAS)
        yield running
        ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Nobody else can write the state database."""
    path = settings.state_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as held:
        held.execute("BEGIN EXCLUSIVE")
        yield
        held.execute("ROLLBACK")


def wait_until(operations: RolloutOperations, true: Callable[[RolloutView], bool]) -> RolloutView:
    deadline = time.monotonic() + WAIT_S
    while not true(view := operations.status()):
        assert time.monotonic() < deadline, view.to_json()
        time.sleep(0.1)
    return view


def logged_ids(app: App, began: datetime) -> list[str]:
    lake = Lake.open(app.settings)
    ship_all(lake, app.settings, "shop")
    rows = read_predictions(lake, "shop", began, datetime.now(UTC) + timedelta(seconds=1))
    return [name for name in rows["request_id"].to_pylist() if name.startswith("steady-")]


def test_serving_goes_on_and_the_rollout_holds(app: App, tmp_path: Path) -> None:
    operations = RolloutOperations(app.database, "shop", PATIENT, principal="ada", num_replicas=NUM_REPLICAS)
    began = datetime.now(UTC)
    load = SteadyLoad(app.settings.http_url, app.token, PER_S, DURATION_S, tmp_path / "sent.jsonl")
    try:
        operations.start("2")
        wait_until(operations, lambda view: view.weight_percent == 50)
        with locked(app.settings):
            locked_at, before = time.time(), operations.status()
            time.sleep(LOCKED_S)
            after, returned_at = operations.status(), time.time()
        ended = wait_until(operations, lambda view: view.is_over)
        sent = load.result()
    finally:
        load.stop()
    assert (after.transitions, after.route) == (before.transitions, before.route)
    assert before.state.phase is Phase.PROGRESSING
    meanwhile = [s for s in sent if locked_at < s.at < s.ended_at < returned_at]
    assert {s.version for s in meanwhile} == {"1", "2"}, "the last known weights"
    assert {s.failure for s in sent} == {None}
    assert (ended.state.phase, ended.route.champion, ended.route.candidate) == (Phase.HEALTHY, "2", None)
    assert Counter(logged_ids(app, began)) == Counter(s.request_id for s in sent)
