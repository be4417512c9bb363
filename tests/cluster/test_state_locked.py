"""The state database fails while a rollout runs under load: serving goes on with the last known weights, the rollout
holds, and when the database is back nothing is lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import ray

from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.database_url import DatabaseAwayError
from app.foundation.lake import Lake
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.predictionlog.reader import read_predictions
from app.predictionlog.shipper import ship_all
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, driver_name
from tests.cluster.chaos import kill, processes_of
from tests.cluster.serving_app import NUM_REPLICAS, App, running_app, save_network
from tests.cluster.serving_project import LIVE
from tests.cluster.steady_load import SteadyLoad
from tests.locked_database import Lock, nobody_reads_or_writes, nobody_writes

REF = "tests.cluster.serving_project:LIVE"
# Judged three times, so that it is not over before the database is locked.
PATIENT = replace(LIVE.rollout, metrics=(replace(LIVE.rollout.metrics[0], count=3),))
BUSY_TIMEOUT_S = 2  # shorter than the locks, so that what waits for them fails
DURATION_S, PER_S = 50.0, 100.0
WAIT_S = 60.0
LOOKS_IN_A_ROW = 20  # of a thing that each of two replicas says: all but surely both


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("locked")
    url = f"sqlite:///{home}/state.db?timeout={BUSY_TIMEOUT_S}"
    with running_app(home, REF, save=save_network, environment={"MILLRACE_STATE_URL": url}) as running:
        start_rollout_driver(REF, running.settings, NUM_REPLICAS)
        yield running
        ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def nobody_is_heard_of(operations: RolloutOperations) -> bool:
    """No replica and no driver could say for ten seconds that it is alive."""
    view = operations.status()
    return not (view.champions or view.candidates or view.driver_alive)


def all_are_stale(app: App) -> bool:
    """Each replica says that its weights are the last it knows."""
    return all(app.http.get("/v1/status").json()["stale"] for _ in range(LOOKS_IN_A_ROW))


def wait_until_it_is_felt(lock: Lock, app: App, operations: RolloutOperations) -> None:
    if lock is nobody_writes:
        wait_until(lambda: nobody_is_heard_of(operations))
        return
    with pytest.raises(DatabaseAwayError):
        operations.status()
    wait_until(lambda: all_are_stale(app))


def logged_ids(app: App, began: datetime) -> list[str]:
    lake = Lake.open(app.settings)
    ship_all(lake, app.settings, "shop")
    rows = read_predictions(lake, "shop", began, datetime.now(UTC) + timedelta(seconds=1))
    return [name for name in rows["request_id"].to_pylist() if name.startswith("steady-")]


@pytest.mark.parametrize(("lock", "candidate"), [(nobody_writes, "2"), (nobody_reads_or_writes, "1")])
def test_serving_goes_on_and_the_rollout_holds(app: App, tmp_path: Path, lock: Lock, candidate: str) -> None:
    operations = RolloutOperations(app.database, "shop", PATIENT, principal="ada", num_replicas=NUM_REPLICAS)
    began = datetime.now(UTC)
    load = SteadyLoad(app.settings.http_url, app.token, PER_S, DURATION_S, tmp_path / "sent.jsonl")
    try:
        operations.start(candidate)
        wait_until(lambda: operations.status().weight_percent == 50)
        with lock(app.settings.state_url):
            locked_at, epoch = time.time(), app.http.get("/v1/status").json()["epoch"]
            wait_until_it_is_felt(lock, app, operations)
            returned_at = time.time()
        wait_until(lambda: operations.status().is_over)
        sent = load.result()
    finally:
        load.stop()
    meanwhile = [s for s in sent if locked_at < s.at < s.ended_at < returned_at]
    assert {(s.version, s.epoch) for s in meanwhile} == {("1", epoch), ("2", epoch)}, "the last known weights"
    assert {s.failure for s in sent} == {None}
    ended = operations.status()
    assert (ended.state.phase, ended.route.champion, ended.route.candidate) == (Phase.HEALTHY, candidate, None)
    assert Counter(logged_ids(app, began)) == Counter(s.request_id for s in sent)


def test_a_replica_that_is_killed_comes_back_while_nobody_can_write(app: App) -> None:
    def heard_of() -> set[str]:
        return {app.http.get("/v1/status").json()["replica_id"] for _ in range(LOOKS_IN_A_ROW)}

    before = heard_of()
    assert len(before) == NUM_REPLICAS
    with nobody_writes(app.settings.state_url):
        kill("replica", next(processes_of("replica")))
        wait_until(lambda: len(found := heard_of()) == NUM_REPLICAS and found != before)
        assert {p["version"] for _ in range(LOOKS_IN_A_ROW) for p in app.predict(3, "r")} == {"1"}
