"""Candidates that are slow, throw, say NaN, eat memory until they are killed or hang in load: the rollout is aborted by
its analysis, the last one because it is not there in time, and every request is answered."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
import ray

from app.assembly.rollout_driver import start_rollout_driver
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.rollout.decide import Phase
from app.rollout.operations import RolloutOperations, RolloutView, driver_name
from tests.cluster.bad_versions import SAVE
from tests.cluster.chaos import processes_of
from tests.cluster.serving_app import NUM_REPLICAS, App, running_app
from tests.cluster.serving_project import WARY
from tests.cluster.traffic import Traffic

REF = "tests.cluster.serving_project:WARY"
WAIT_S = 90.0
MEMORY_LIMIT_BYTES = 1_500_000_000
GIVEN_UP_FOR = {
    "slow": ("time: Failed", "errors: Failed"),  # on a busy machine it is late altogether
    "throwing": ("errors: Failed",),
    "nan": ("errors: Failed", "missing: Failed"),
    "greedy": ("errors: Failed",),
    "hanging": ("was not loaded in 1 of its replicas",),
}


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("bad"), REF) as running:
        start_rollout_driver(REF, running.settings, NUM_REPLICAS)
        yield running
        ray.kill(ray.get_actor(driver_name("shop"), COLLECTOR_NAMESPACE))


@contextmanager
def memory_limit() -> Iterator[list[int]]:
    """Kills a candidate's process that holds more than the limit, as the kernel does in a container; gives which."""
    killed: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for pid in processes_of("candidate"):
                if psutil.pid_exists(pid) and _held_bytes(pid) > MEMORY_LIMIT_BYTES:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield killed
    finally:
        over.set()
        watcher.join()


def _held_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def wait_over(operations: RolloutOperations) -> RolloutView:
    deadline = time.monotonic() + WAIT_S
    while not (view := operations.status()).is_over:
        assert time.monotonic() < deadline, view.to_json()
        time.sleep(0.2)
    return view


@pytest.mark.parametrize("kind", SAVE)
def test_is_aborted_and_the_champion_answers(app: App, kind: str) -> None:
    version = str(10 + list(SAVE).index(kind))
    SAVE[kind](app.settings, version)
    operations = RolloutOperations(app.database, "shop", WARY.rollout, principal="ada", num_replicas=NUM_REPLICAS)
    with memory_limit() as killed, Traffic(app) as traffic:
        operations.start(version)
        ended = wait_over(operations)
    assert ended.state.phase is Phase.ABORTED
    given_up = next(t.reason for t in ended.transitions if t.to_phase is Phase.DEGRADED)
    assert any(reason in given_up for reason in GIVEN_UP_FOR[kind]), given_up
    assert traffic.refused == []
    assert traffic.num_answered > 0
    assert (ended.route.champion, ended.route.candidate) == ("1", None)
    assert bool(killed) is (kind == "greedy")
