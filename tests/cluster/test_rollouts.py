"""Rollouts of a running application, moved on by the platform's driver and steered by a person."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pyarrow as pa
import pytest
import ray

from app.assembly.rollout_api import deploy_rollout_api
from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.lake import Lake
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.predictionlog.reader import read_mirrored, read_predictions
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, RolloutView, driver_name
from app.serving.arrow_bodies import ARROW_STREAM, write_table
from app.serving.live_check import wait_live
from tests.cluster.serving_app import NUM_REPLICAS, App, orders, running_app
from tests.cluster.serving_project import LIVE, SHADOW
from tests.cluster.traffic import Traffic

REF = "tests.cluster.serving_project:LIVE"
WAIT_S = 60.0


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("rollouts"), REF) as running:
        start_rollout_driver(REF, running.settings, NUM_REPLICAS)
        yield running
        ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))


@pytest.fixture
def operations(app: App) -> RolloutOperations:
    return RolloutOperations(
        app.database, "shop", LIVE.rollout, principal="ada", num_replicas=NUM_REPLICAS
    )


def wait_until(operations: RolloutOperations, true: Callable[[RolloutView], bool]) -> RolloutView:
    deadline = time.monotonic() + WAIT_S
    while not true(view := operations.status()):
        assert time.monotonic() < deadline, view.to_json()
        time.sleep(0.2)
    return view


def ask_for_a_table(app: App, prefix: str, num_rows: int) -> None:
    rows = pa.Table.from_pylist(orders(num_rows, prefix))
    headers = {"content-type": ARROW_STREAM}
    answer = app.http.post("/v1/predict", content=write_table(rows), headers=headers)
    assert answer.status_code == 200, answer.text
    assert {p["answered_by"] for p in answer.json()["predictions"]} == {"champion"}


def test_driver_rolls_a_good_version_out_and_a_person_takes_it_back(app: App, operations: RolloutOperations) -> None:
    with Traffic(app) as traffic:
        operations.start("2")
        done = wait_until(operations, lambda view: view.is_over)
        assert (done.state.phase, done.route.champion) == (Phase.HEALTHY, "2"), done.state.reason
        back = operations.drive(operations.rollback(None, "rehearsal").state.rollout_id, WAIT_S)
        live = wait_live(
            app.settings.http_url, version="1", epoch=back.route.epoch,
            replicas=[a.replica_id for a in back.champions], timeout_s=WAIT_S, headers=app.headers,
        )
    assert len(live.epochs) == NUM_REPLICAS
    assert {p["version"] for p in app.predict(40, "after")} == {"1"}
    assert traffic.refused == []
    assert traffic.num_answered > 0


def test_driver_aborts_a_version_that_fails(app: App, operations: RolloutOperations) -> None:
    with Traffic(app) as traffic:
        operations.start("3")
        ended = wait_until(operations, lambda view: view.is_over)
    assert ended.state.phase is Phase.ABORTED
    given_up = next(t.reason for t in ended.transitions if t.to_phase is Phase.DEGRADED)
    assert given_up.startswith("analysis at 50%: errors: Failed")
    assert (ended.route.champion, ended.route.candidate) == ("1", None)
    assert traffic.refused == []


def test_a_killed_driver_comes_back_and_goes_on(app: App, operations: RolloutOperations) -> None:
    actor = ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE)
    before = ray.get(actor.process_id.remote())
    operations.start("2")
    wait_until(operations, lambda view: view.state.phase is Phase.PROGRESSING)
    os.kill(before, signal.SIGKILL)
    with Traffic(app) as traffic:
        done = wait_until(operations, lambda view: view.is_over)
    assert (done.state.phase, done.route.champion) == (Phase.HEALTHY, "2")
    assert ray.get(actor.process_id.remote()) != before
    steps = [t.step_index for t in done.transitions]
    assert steps == sorted(set(steps)) or steps[-1] == steps[-2], "no step was walked twice"
    assert traffic.refused == []
    operations.drive(operations.rollback("1", "end of the test").state.rollout_id, WAIT_S)


def test_paused_and_aborted_by_a_person(app: App, operations: RolloutOperations) -> None:
    operations.start("2")
    wait_until(operations, lambda view: view.route.weight_percent == 50)
    assert operations.pause("look at it").state.phase is Phase.PAUSED
    time.sleep(3)  # the driver's tick comes by and leaves it alone
    assert operations.status().route.weight_percent == 50
    ended = operations.drive(operations.abort("no").state.rollout_id, WAIT_S)
    assert (ended.state.phase, ended.route.candidate) == (Phase.ABORTED, None)
    assert {p["version"] for p in app.predict(40, "aborted")} == {"1"}


def test_a_shadow_is_judged_by_copies_and_answers_nobody(app: App) -> None:
    shadow = RolloutOperations(
        app.database, "shop", SHADOW.rollout, principal="ada", num_replicas=NUM_REPLICAS
    )
    with Traffic(app) as traffic:
        asked = shadow.start("2")
        wait_until(shadow, lambda view: view.route.mirror_percent > 0)
        ask_for_a_table(app, "table-", 50)
        ended = wait_until(shadow, lambda view: view.is_over)
        assert (ended.state.phase, ended.route.champion) == (Phase.HEALTHY, "2"), ended.state.reason
        shadow.drive(shadow.rollback("1", "end of the test").state.rollout_id, WAIT_S)
    assert traffic.refused == []
    lake = Lake.open(app.settings)
    long_ago, later = datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)
    copies = read_mirrored(lake, "shop", long_ago, later).to_pylist()
    assert len(copies) >= 10
    assert {(c["version"], c["mirror_version"], c["mirror_error"]) for c in copies} == {("1", "2", None)}
    assert sum(c["key"].startswith("table-") for c in copies) > 0, "rows of Arrow bodies are shown, too"
    answered = read_predictions(lake, "shop", long_ago, later).to_pylist()
    assert {a["answered_by"] for a in answered if a["rollout_id"] == asked.state.rollout_id} == {"champion"}


def test_over_http(app: App) -> None:
    """The same verbs for a token with the scope; nothing for one without."""
    deploy_rollout_api(REF, app.settings)
    predictor, _ = app.tokens.create("bob", ["predict"], "test")
    refused = app.http.get("/v1/rollouts/", headers={"Authorization": f"Bearer {predictor}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
    unknown = app.http.get("/v1/rollouts/", headers={"Authorization": "Bearer nobody"})
    assert unknown.status_code == 401
    operator, _ = app.tokens.create("eve", ["rollout"], "test")
    with httpx.Client(
        base_url=f"{app.settings.http_url}/v1/rollouts", headers={"Authorization": f"Bearer {operator}"}, timeout=30
    ) as http:
        assert http.post("/", json={"version": "1"}).json()["error"]["code"] == "rollout_refused"
        assert http.post("/", json={"version": 2}).status_code == 422
        started = http.post("/", json={"version": "2"})
        assert (started.status_code, started.json()["phase"]) == (202, "Pending")
        _wait_http(http, lambda view: view["weight_percent"] == 50)
        paused = http.post("/current/pause", json={"reason": "lunch"}).json()
        assert (paused["phase"], paused["reason"]) == ("Paused", "eve: lunch")
        http.post("/current/abort", json={"reason": "no"})
        ended = _wait_http(http, lambda view: view["finished_at"] is not None)
        assert (ended["phase"], ended["serving"]) == ("Aborted", "1")
        assert http.get("/").json()[-1]["rollout"] == ended["rollout"] == http.get("/current").json()["rollout"]
        assert http.get("/nobody-2-r1").json()["error"]["code"] == "name_unknown"


def _wait_http(http: httpx.Client, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    view: dict[str, Any] = {}
    while not view or not true(view):
        assert time.monotonic() < deadline, view
        view = http.get("/current").json()
        time.sleep(0.1)
    return view
