"""A push that a slow store holds up holds up nobody else."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from app.features import store as module
from tests.unit.serving.conftest import START, Replica, orders

LONGEST_S = 60.0  # of a wait that ends at once unless the test fails


def test_others_are_answered_while_a_push_waits_for_its_store(
    replica: Replica, admin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time is measured: the push may go on only after the others have been answered."""
    begun, may_go_on = threading.Event(), threading.Event()
    write = module.write_pushed

    def slow(*arguments: Any) -> Any:
        begun.set()
        if not may_go_on.wait(LONGEST_S):
            raise TimeoutError("the others were not answered while the push waited")
        return write(*arguments)

    monkeypatch.setattr(module, "write_pushed", slow)
    row = {"shop": "s9", "stock": 9.0, "at": START.isoformat()}

    async def run() -> tuple[list[int], int]:
        async with replica.client(admin) as client:
            push = asyncio.create_task(client.post("/v1/features/push", json={"view": "stock_now", "rows": [row]}))
            await asyncio.to_thread(begun.wait, LONGEST_S)
            others = [
                await client.post("/v1/predict", json={"entities": orders(2, "slow")}),
                await client.post(
                    "/v1/features/online", json={"features": ["stock_now:stock"], "entities": [{"shop": "s1"}]}
                ),
                await client.get("/v2/health/live"),
            ]
            assert not push.done()
            may_go_on.set()
            return [other.status_code for other in others], (await push).status_code

    assert asyncio.run(run()) == ([200, 200, 200], 200)
