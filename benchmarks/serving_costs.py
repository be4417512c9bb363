"""What each part of the request path costs in one process: everything off, then one part after another switched on.

Measured as time of the processor in the thread that answers, so that a busy machine does not count.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.foundation.access import TokenRegistry
from app.foundation.state import StateDatabase
from app.serving.api import build_api
from app.serving.gate import Gate
from app.serving.metrics import RayMetrics
from app.serving.routing import RoutingTable
from app.serving.score_cache import ScoreCache
from app.serving.service import ModelService
from app.settings import Settings, load_settings
from benchmarks.serving_project import PROJECT, fill, rows

REF = "benchmarks.serving_project:PROJECT"
WARM_UP = 300
SHARE = 10.0


class Silent:
    """Stands in for a part that is switched off."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return self.__call__


class Gathering(Silent):
    """Profiling's share in the replica: rows are gathered; sending them is Ray's, some ten times a second."""

    def __init__(self, *_: object) -> None:
        self._gathered: list[Any] = []

    def __call__(self, *batch: object) -> None:
        self._gathered.append(batch)
        if len(self._gathered) >= 1_000:
            self._gathered = []


def measure_costs(home: Path, num_requests: int) -> dict[str, float]:
    """Microseconds a request of one row takes, by what is switched on; the parts add up from left to right."""
    settings = load_settings({"MILLRACE_HOME": str(home)}, in_job=False)
    fill(settings)
    database = StateDatabase.open(settings.state_url)
    routing = RoutingTable(database)
    routing.write(PROJECT.name, 0, champion="1", reason="benchmark")
    token, _ = TokenRegistry(database).create("bench", ["predict"], "benchmark")
    bodies = [
        json.dumps({"rows": [{"order_id": f"o{number}", **row}]}).encode()  # keys of their own, or all go to one side
        for number, row in enumerate(rows(num_requests))
    ]
    found: dict[str, float] = {}
    with ExitStack() as stack:
        service = ModelService(REF, settings, "bench", _candidate, Silent, Silent)
        stack.callback(service.close)
        model, request = service.followed.models["1"], rows(1)
        found["model and transform alone"] = _time(lambda: model.predict(request), num_requests)
        log, opened = service.predictor._log, replace(settings, open_access=True)
        service.predictor._log = Silent()  # type: ignore[assignment]
        found["gate, parsing, checks, model"] = _ask(service, opened, bodies, None)
        found["+ token"] = _ask(service, settings, bodies, token)
        service.predictor._log = log
        found["+ prediction log"] = _ask(service, settings, bodies, token)
        service.predictor._observe = Gathering()
        found["+ profiling"] = _ask(service, settings, bodies, token)
        service.metrics = RayMetrics(PROJECT.name)
        found["+ metrics"] = _ask(service, settings, bodies, token)
        routing.write(PROJECT.name, 1, champion="1", candidate="2", weight_percent=SHARE, reason="benchmark")
        service._follower.poll()
        found["+ split (the candidate's own time left out)"] = _ask(service, settings, bodies, token)
        service.predictor.cache = ScoreCache(100_000)
        found["+ score cache, all misses"] = _ask(service, settings, bodies, token)
        found["+ score cache, all hits"] = _ask(service, settings, bodies[:WARM_UP] * (num_requests // WARM_UP), token)
    return found


async def _candidate(version: str | None, asked: list[dict[str, Any]]) -> list[float]:
    return [0.5] * len(asked)


def _ask(service: ModelService, settings: Settings, bodies: list[bytes], token: str | None) -> float:
    service.settings = settings
    gate = Gate(service, build_api(service))
    headers = [(b"content-type", b"application/json"), (b"x-request-id", b"benchmark")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    scope = {"type": "http", "path": "/v1/predict", "method": "POST", "headers": headers}
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> float:
        for body in bodies[:WARM_UP]:
            await gate(scope, _receive(body), send)
        began = time.thread_time()
        for body in bodies:
            await gate(scope, _receive(body), send)
        return (time.thread_time() - began) / len(bodies) * 1e6

    took = asyncio.run(run())
    assert all(m["status"] == 200 for m in sent if m["type"] == "http.response.start"), sent[:2]
    return took


def _receive(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _time(call: Callable[[], object], times: int) -> float:
    for _ in range(WARM_UP):
        call()
    began = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - began) / times * 1e6
