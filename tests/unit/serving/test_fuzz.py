"""Every endpoint of the OpenAPI document under generated requests, good ones and broken ones: no 5xx, no stack trace.

The requests go to a whole replica in this process: real gate, predictor, model, feature store and log.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlencode

import hypothesis
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from schemathesis import GenerationMode

from app.serving.api import build_api
from app.serving.arrow_bodies import ARROW_STREAM, write_table
from tests.unit.serving.conftest import Replica, feature_rows, open_replica, orders

SHORT, FULL = 30, 1_200  # cases for each operation and mode
NUM_OPERATIONS = 14
FOREIGN_TOKEN_EVERY = 10


class Fuzzed:
    """A replica, and the statuses it gave by operation."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        token, _ = replica.tokens.create("fuzzer", ["admin"], "test", timedelta(hours=1))
        self._authorization = (b"authorization", f"Bearer {token}".encode())
        self.loop = asyncio.new_event_loop()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._num_cases = 0
        replica.service.authenticator.refresh()

    def send(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, query: str = "",
        label: str = "",
    ) -> None:
        """Sends one request and checks what every answer must be."""
        sent = [(_latin(name.lower()), _latin(value)) for name, value in (headers or {}).items()]
        if not any(name == b"authorization" for name, _ in sent):
            sent.append(self._authorization)
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path), "raw_path": _latin(path), "root_path": "", "headers": sent,
            "query_string": _latin(query), "client": ("127.0.0.1", 1), "server": ("replica", 80),
        }
        status, content_type, answer = self.loop.run_until_complete(self._ask(scope, body))
        self.statuses[(label or f"{method} {path}", status)] += 1
        text = answer.decode("utf-8", "replace")
        assert status < 500, f"{method} {path} {body[:500]!r}: {status} {text[:500]}"
        assert "Traceback" not in text and "site-packages" not in text
        if status >= 400:
            error = json.loads(answer)["error"]
            assert content_type.startswith("application/json")
            assert isinstance(error, str) if path.startswith("/v2") else error["code"] and error["message"]

    async def _ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, str, bytes]:
        messages: list[Any] = []
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(given, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            messages.append(message)

        await self.replica.gate(scope, receive, send)
        headers = {k.lower(): v for k, v in messages[0]["headers"]}
        return (
            messages[0]["status"], headers.get(b"content-type", b"").decode(),
            b"".join(m.get("body", b"") for m in messages[1:]),
        )

    def send_case(self, case: schemathesis.Case) -> None:
        """Sends what schemathesis made."""
        body = b""
        headers = {str(k): str(v) for k, v in dict(case.headers or {}).items()}
        self._num_cases += 1
        if self._num_cases % FOREIGN_TOKEN_EVERY:  # a made-up token ends at the door and tries nothing behind it
            headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
        if isinstance(case.body, bytes):
            body = case.body
        elif case.media_type is not None and type(case.body).__name__ != "NotSet":
            body = json.dumps(case.body, default=str).encode()
        if case.media_type is not None:
            headers.setdefault("content-type", case.media_type)
        query = urlencode(dict(case.query or {}), doseq=True, errors="replace")
        label = f"{case.method} {case.operation.path}"
        self.send(case.method, case.formatted_path, body, headers, query, label)


def _latin(text: str) -> bytes:
    return text.encode("latin-1", "replace")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    replica = open_replica(tmp_path_factory.mktemp("fuzz"), "tests.cluster.serving_project:ROBUST")
    found = Fuzzed(replica)
    yield found
    found.loop.close()
    replica.service.close()


def generate(fuzzed: Fuzzed, num_cases: int) -> int:
    """Sends `num_cases` good and as many broken requests to each operation; gives how many were sent."""
    document = build_api(fuzzed.replica.service).openapi()
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == NUM_OPERATIONS
    before = sum(fuzzed.statuses.values())
    settings = hypothesis.settings(
        max_examples=num_cases, database=None, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    for operation in operations:
        modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        if operation.method.upper() == "GET" and "{" not in operation.path:
            modes = [GenerationMode.POSITIVE]
        for mode in modes:

            @given(operation.as_strategy(generation_mode=mode))
            @settings
            def send(case: schemathesis.Case) -> None:
                fuzzed.send_case(case)

            send()
    return sum(fuzzed.statuses.values()) - before


def check_reach(fuzzed: Fuzzed) -> None:
    """Raises: AssertionError: a body's endpoint was never reached by a good request, or never by a broken one."""
    for path in ("/v1/predict", "/v1/labels", "/v1/features/push", "/v1/features/online"):
        seen = {status for (label, status) in fuzzed.statuses if label == f"POST {path}"}
        assert 200 in seen, f"{path}: {seen}"
        assert seen & {400, 422}, f"{path}: {seen}"


def test_generated_requests_never_fail_the_service(fuzzed: Fuzzed) -> None:
    generate(fuzzed, SHORT)
    check_reach(fuzzed)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_twenty_thousand_generated_requests_never_fail_the_service(fuzzed: Fuzzed) -> None:
    assert generate(fuzzed, FULL) >= 20_000
    check_reach(fuzzed)


VALID = [
    ("/v1/predict", json.dumps({"rows": feature_rows(2)}).encode(), {}),
    ("/v1/predict", json.dumps({"entities": orders(2)}).encode(), {}),
    ("/v1/predict", write_table(pa.Table.from_pylist(feature_rows(2))), {"content-type": ARROW_STREAM}),
    ("/v1/predict", write_table(pa.Table.from_pylist(orders(2))), {"content-type": ARROW_STREAM}),
    (
        "/v2/models/shop/infer",
        b'{"inputs":[{"name":"price","shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}},'
        b'{"name":"stock","shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}}]}' + bytes(16),
        {"inference-header-content-length": "180", "content-type": "application/octet-stream"},
    ),
]


@given(
    st.sampled_from(VALID), st.integers(0, 10_000), st.binary(max_size=12), st.integers(0, 12),
    st.sampled_from([{}, {"accept": ARROW_STREAM}, {"x-millrace-variant": "candidate"}, {"authorization": "Bearer x"}]),
)
@hypothesis.settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
def test_damaged_bodies_never_fail_the_service(
    fuzzed: Fuzzed, request_: tuple[str, bytes, dict[str, str]], at: int, put: bytes, taken: int, more: dict[str, str]
) -> None:
    path, body, headers = request_
    place = at % (len(body) + 1)
    damaged = body[:place] + put + body[place + taken :]
    fuzzed.send("POST", path, damaged, {"content-type": "application/json", **headers, **more})
