"""The host's only HAProxy, or Ray's manager of it, is killed under load: what clients see, and that Ray's repair takes
the traffic back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.serving.live_check import wait_live
from tests.cluster.chaos import HAPROXY, broke_with_the_proxy, kill, processes_of
from tests.cluster.proxy_kills import MANAGER, kill_one, wait_repaired, wait_until
from tests.cluster.serving_app import App, running_app, save_network
from tests.cluster.steady_load import Sent, SteadyLoad

NUM_REPLICAS = 2
PER_S = 100.0
DURATION_S = 25.0


@pytest.fixture(scope="module")
def app(ray_head: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("proxy"), num_replicas=NUM_REPLICAS, save=save_network) as running:
        yield running


def failures(sent: list[Sent]) -> list[str]:
    return sorted({s.failure for s in sent if s.failure})


def check_new_replicas_are_reached(app: App) -> None:
    """HAProxy learns of replicas again: all it knew are killed, so whatever answers then is new."""
    old = {a.replica_id for a in app.routing.acknowledgements("shop")}
    for pid in list(processes_of("replica")):
        kill("replica", pid)
    wait_until(lambda: len(new_replicas(app, old)) == NUM_REPLICAS, "new replicas")
    route = app.routing.current("shop")
    wait_live(
        app.settings.http_url, version=route.champion, epoch=route.epoch, replicas=new_replicas(app, old),
        timeout_s=60, headers=app.headers,
    )


def new_replicas(app: App, old: set[str]) -> list[str]:
    return [a.replica_id for a in app.routing.acknowledgements("shop") if a.replica_id not in old]


@pytest.mark.parametrize("kind", [HAPROXY, MANAGER])
def test_only_connections_of_the_killed_haproxy_break(app: App, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "sent.jsonl"
    load = SteadyLoad(app.settings.http_url, app.token, PER_S, DURATION_S, out)
    try:
        wait_until(lambda: out.exists() and out.stat().st_size > 0, "answers")
        killed, *followed = kill_one(kind)
        wait_repaired(killed)
        repaired_at = time.time()
        sent = load.result()
    finally:
        load.stop()
    broken = broke_with_the_proxy(sent, [killed, *followed])
    assert failures([s for s in sent if s.request_id not in broken]) == []
    assert any(killed.gone_at < s.at < repaired_at for s in sent), "there was load while Ray repaired"
    check_new_replicas_are_reached(app)
