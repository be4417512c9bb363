"""A replica whose state database hangs: it answers as before, and what it could not write is written afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from app.foundation.access.tokens import Grant
from app.foundation.state import models as m
from tests.locked_database import nobody_reads_or_writes
from tests.unit.serving.conftest import Replica, feature_rows, open_replica, orders

WAIT_S = 60.0


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    found = open_replica(tmp_path / "home", MILLRACE_STATE_URL=f"sqlite:///{tmp_path}/state.db?timeout=0.1")
    found.service.policy = replace(found.service.policy, request_timeout_s=1.0)
    yield found
    found.service.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def statuses(replica: Replica, token: str) -> list[int]:
    """Of requests by entity, by features, with a label, and with a foreign token."""
    async with replica.client(token) as client:
        return [
            (await client.post("/v1/predict", json={"entities": orders(3)})).status_code,
            (await client.post("/v1/predict", json={"rows": feature_rows(3)})).status_code,
            (await client.post("/v1/labels", json={"labels": [label()]})).status_code,
            (await client.get("/v1/status", headers={"Authorization": "Bearer foreign"})).status_code,
        ]


def label() -> dict[str, object]:
    return {"key": "o1", "label": 1, "available_timestamp": datetime.now(UTC).isoformat()}


def test_it_answers_by_the_last_route_and_audits_later(replica: Replica) -> None:
    token, _ = replica.tokens.create("ada", ["predict", "labels"], "test")
    replica.service.authenticator.refresh()
    with nobody_reads_or_writes(replica.settings.state_url):
        assert asyncio.run(statuses(replica, token)) == [200, 200, 200, 401]
        wait_until(lambda: replica.service.followed.stale)
        replica.service.authenticator.audit()
        assert asyncio.run(statuses(replica, token)) == [200, 200, 200, 401]
    wait_until(lambda: not replica.service.followed.stale)
    replica.service.authenticator.audit()
    with replica.database.session() as session:
        (denied,) = session.scalars(select(m.Decision).where(m.Decision.decision == "denied"))
    assert (denied.subject, denied.reason, denied.detail) == ("GET /v1/status", "token_unknown", {"times": 2})


def test_a_look_at_the_tokens_that_hangs_holds_no_request_up(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = replica.tokens.create("ada", ["predict", "labels"], "test")
    replica.service.authenticator.refresh()
    hangs, may_end = threading.Event(), threading.Event()

    def hang() -> dict[str, Grant]:
        hangs.set()
        assert may_end.wait(WAIT_S)
        return {}

    monkeypatch.setattr(replica.service.authenticator._registry, "active", hang)
    assert hangs.wait(WAIT_S)

    async def ask() -> list[int]:
        async with asyncio.timeout(WAIT_S / 2):
            return await statuses(replica, token)

    try:
        with asyncio.Runner() as runner:
            assert runner.run(ask()) == [200, 200, 200, 401]
            may_end.set()
    finally:
        may_end.set()
