"""Replicas come and go on a real Ray: green ones before they get traffic, more under load, fewer after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import ray

from app.assembly.application import deploy
from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, driver_name
from tests.cluster.scaling_projects import BLUE_GREEN
from tests.cluster.serving_app import NUM_REPLICAS, App, orders, running_app

GREEN_REF, ELASTIC_REF = (f"tests.cluster.scaling_projects:{name}" for name in ("BLUE_GREEN", "ELASTIC"))
WAIT_S = 90.0
NUM_CALLERS = 8


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def versions(app: App) -> set[str]:
    return {p["version"] for p in app.predict(40, "o")}


def test_green_has_the_champions_capacity_before_it_answers_and_blue_takes_over_again(
    ray_head: None, tmp_path: Path
) -> None:
    with running_app(tmp_path, GREEN_REF) as app:
        start_rollout_driver(GREEN_REF, app.settings, NUM_REPLICAS)
        operations = RolloutOperations(
            app.database, "shop", BLUE_GREEN.rollout, principal="ada", num_replicas=NUM_REPLICAS
        )
        try:
            operations.start("2")
            wait_until(lambda: operations.status().route.weight_percent == 100, "green gets no traffic")
            green = [a for a in operations.status().candidates if "2" in a.loaded]
            assert len(green) == NUM_REPLICAS, "traffic came before all of green was there"
            wait_until(lambda: versions(app) == {"2"}, "green does not answer all")
            back = operations.drive(operations.abort("rehearsal").state.rollout_id, WAIT_S)
            assert (back.state.phase, back.route.champion, back.route.weight_percent) == (Phase.ABORTED, "1", 0)
            assert versions(app) == {"1"}
            operations.start("2")
            wait_until(lambda: operations.status().route.weight_percent == 100, "green gets no traffic again")
            done = operations.drive(operations.promote("good").state.rollout_id, WAIT_S)
            assert (done.state.phase, done.route.champion, done.route.candidate) == (Phase.HEALTHY, "2", None)
            assert versions(app) == {"2"}
        finally:
            ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))


@contextmanager
def load(app: App) -> Iterator[list[int]]:
    """A few callers that ask without a pause, for `WAIT_S` at most; gives the statuses that they were answered with."""
    statuses: list[int] = []
    stopped = threading.Event()
    deadline = time.monotonic() + WAIT_S

    def ask(caller: int) -> None:
        body = {"entities": orders(200, f"c{caller}-")}
        with httpx.Client(base_url=app.settings.http_url, headers=app.headers, timeout=30) as http:
            while not stopped.is_set() and time.monotonic() < deadline:
                statuses.append(http.post("/v1/predict", json=body).status_code)

    with ThreadPoolExecutor(NUM_CALLERS) as callers:
        asked = [callers.submit(ask, number) for number in range(NUM_CALLERS)]
        try:
            yield statuses
        finally:
            stopped.set()
    for caller in asked:
        caller.result()


def test_replicas_follow_the_load_up_and_down(ray_head: None, tmp_path: Path) -> None:
    with running_app(tmp_path, ELASTIC_REF, num_replicas=1) as app:
        deploy(ELASTIC_REF, app.settings)  # by the project's policy instead of one replica

        def live() -> int:
            return len(app.routing.acknowledgements("shop"))

        wait_until(lambda: live() == 1, "more than one replica without any load")
        with load(app) as statuses:
            wait_until(lambda: live() == 2, "no second replica under load")
        wait_until(lambda: live() == 1, "two replicas without any load")
        assert set(statuses) == {200}, "a replica that came or went cost a request"
        assert versions(app) == {"1"}
