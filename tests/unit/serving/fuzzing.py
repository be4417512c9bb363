"""Requests generated from an OpenAPI document, good ones and broken ones, and what every answer to them must be."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any
from urllib.parse import unquote, urlencode

import hypothesis
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

FOREIGN_TOKEN_EVERY = 10


class Fuzzed:
    """An ASGI application, and the statuses it gave by operation. `token`: opens every door of it."""

    def __init__(self, application: Callable[..., Awaitable[None]], token: str) -> None:
        self._application = application
        self._authorization = (b"authorization", f"Bearer {token}".encode())
        self.loop = asyncio.new_event_loop()
        self.statuses: Counter[tuple[str, int]] = Counter()
        self._num_cases = 0

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

        await self._application(scope, receive, send)
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


def generate(fuzzed: Fuzzed, document: dict[str, Any], num_operations: int, num_cases: int) -> int:
    """Sends `num_cases` good and as many broken requests to each operation; gives how many were sent."""
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == num_operations
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

            # Whatever stands in a path may be a name, so some operations have no broken requests.
            with suppress(Unsatisfiable) if operation.method.upper() == "GET" else nullcontext():
                send()
    return sum(fuzzed.statuses.values()) - before
