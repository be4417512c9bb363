"""Rollouts of a running application, moved on by the platform's driver and steered by a person."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import ray

from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, RolloutView, driver_name
from app.serving.live_check import wait_live
from tests.cluster.serving_app import NUM_REPLICAS, App, orders, running_app
from tests.cluster.serving_project import LIVE

REF = "tests.cluster.serving_project:LIVE"
WAIT_S = 60.0


class Traffic:
    """Asks for predictions, now, until it is left; keeps what was not answered."""

    def __init__(self, app: App) -> None:
        self.refused: list[str] = []
        self.num_answered = 0
        self._url = app.settings.http_url
        self._headers = app.headers
        self._stop = threading.Event()
        self._asker = threading.Thread(target=self._ask)

    def __enter__(self) -> Traffic:
        self._asker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._asker.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, headers=self._headers) as http:
            while not self._stop.is_set():
                response = http.post("/v1/predict", json={"entities": orders(20, f"t{self.num_answered}-")})
                if response.status_code == 200:
                    self.num_answered += 1
                else:
                    self.refused.append(response.text)
                time.sleep(0.02)


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
