"""The door that requests pass: who asks, how much, what for. Errors leave as JSON, never as a stack trace.

Plain ASGI: `/v1/predict` is answered here without a web framework, whose share of a request would be larger than the
model's. All other paths go on to the FastAPI application, with the body read and the caller in the scope.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import orjson
import pyarrow as pa

from app.errors import MillraceError, RequestError
from app.foundation.access import Grant, require_scope
from app.foundation.access.authenticator import LOOK_AGAIN_S
from app.foundation.access.scopes import LABELS, PREDICT
from app.serving.arrow_bodies import ARROW_STREAM, MAX_ARROW_BYTES, write_table
from app.serving.caller import Caller, open_grant, request_id_of
from app.serving.limits import InFlight, RateLimits
from app.serving.open_inference import HEADER_LENGTH
from app.serving.request import MAX_BODY_BYTES, too_large
from app.serving.service import ModelService
from app.serving.spans import Spans
from app.serving.trace_context import HEADER as TRACE_HEADER
from app.serving.trace_context import parse_traceparent
from app.serving.traffic import OVERRIDE_HEADER

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]

CALLER, REFUSED = "millrace.caller", "millrace.refused"  # keys in the ASGI scope
PREDICT_PATH, PROTOCOL_PATH, HEALTH_PATH = "/v1/predict", "/v2", "/v2/health/"
JSON, OCTETS = "application/json", "application/octet-stream"
OVERRIDE, TRACE, BINARY = OVERRIDE_HEADER.encode(), TRACE_HEADER.encode(), HEADER_LENGTH.encode()


class UnsupportedMediaError(RequestError):
    """A body of a type that this address does not take."""

    code = "media_type_unsupported"
    http_status = 415


class MethodError(RequestError):
    """A method that this address does not take."""

    code = "method_not_allowed"
    http_status = 405


class ClientGoneError(Exception):
    """The client hung up before its body was there."""


def scope_for(path: str) -> str | None:
    """The scope that a path needs; `None`: none of its own (features are checked view by view).

    >>> scope_for("/v1/predict"), scope_for("/v2/models/m/infer"), scope_for("/v1/status")
    ('predict', 'predict', None)
    """
    if path in (PREDICT_PATH, PROTOCOL_PATH) or path.startswith("/v2/"):
        return PREDICT
    return LABELS if path == "/v1/labels" else None


def media_types(path: str, headers: Headers) -> tuple[str, ...]:
    """The types of body that a path takes."""
    if path == PREDICT_PATH:
        return (JSON, ARROW_STREAM)
    if path.startswith("/v2/") and BINARY in headers:
        return (OCTETS, JSON)
    return (JSON,)


class Gate:
    """An ASGI application in front of another.

    Args:
        service: answers.
        inner: everything but predictions.
        spans: records traces; `None`: nothing is recorded.
    """

    def __init__(
        self, service: ModelService, inner: Callable[..., Awaitable[None]], spans: Spans | None = None
    ) -> None:
        self._service = service
        self._inner = inner
        self._spans = spans
        self._limits = RateLimits()
        self._in_flight = InFlight(service.policy.max_in_flight)
        self._open = open_grant(service.settings.principal) if service.settings.open_access else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers: Headers = dict(scope["headers"])
        path, method = _path(scope), scope["method"]
        request_id = request_id_of(_text(headers, b"x-request-id"))
        asked_by = parse_traceparent(_text(headers, TRACE))
        trace = None if asked_by is None else asked_by.child()
        reply = [] if b"x-request-id" in headers else [(b"x-request-id", request_id.encode())]
        if trace is not None:
            reply.append((TRACE, trace.header().encode()))
        began = time.time_ns()
        grant: Grant | None = None
        try:
            if path.startswith(HEALTH_PATH):
                await self._inner(scope, receive, send)
                return
            grant = self._open or await self._authenticate(headers)
            wanted = scope_for(path)
            if wanted is not None:
                require_scope(grant, wanted)
            self._limits.take(grant)
            with self._in_flight.one():
                caller = Caller(grant, request_id, trace)
                body = await read_body(path, method, headers, receive)
                if path == PREDICT_PATH:
                    if method != "POST":
                        raise MethodError(f"{path} takes POST, not {method[:20]}.", allow="POST")
                    status = 200
                    await self._predict(body, headers, caller, reply, send)
                else:
                    status = await self._pass_on(scope, body, caller, reply, receive, send)
        except ClientGoneError:
            status = 499
        except MillraceError as error:
            status = error.http_status
            await self._refuse(error, grant, path, method, request_id, reply, send)
        except Exception:
            status = 500
            logger.exception("%s %s failed (request %s)", method, path[:200], request_id)
            self._service.metrics.refused(500, "internal_error")
            message = "the service failed; its log says why. The request may be sent again."
            await send_error(send, path, 500, "internal_error", message, {}, reply)
        if self._spans is not None:
            span = None if asked_by is None or trace is None else (asked_by, trace)
            self._spans.record(f"{method} {path[:200]}", span, began, time.time_ns(), status, request_id)

    async def _authenticate(self, headers: Headers) -> Grant:
        authenticator = self._service.authenticator
        header = _text(headers, b"authorization")
        try:
            return authenticator.authenticate(header)
        except MillraceError as error:
            if error.code != "token_unknown":
                raise
        asked_at = time.monotonic()
        await asyncio.sleep(max(0.0, authenticator.looked_at_s + LOOK_AGAIN_S - asked_at))
        with suppress(TimeoutError):  # a database that hangs: those known stay in force
            async with asyncio.timeout(self._service.policy.request_timeout_s):
                await asyncio.to_thread(authenticator.refresh, asked_at)
        return authenticator.authenticate(header)

    async def _predict(
        self, body: bytes, headers: Headers, caller: Caller, reply: list[tuple[bytes, bytes]], send: Send
    ) -> None:
        override = _text(headers, OVERRIDE)
        wants_arrow = ARROW_STREAM.encode() in headers.get(b"accept", b"")
        if _media_type(headers) == ARROW_STREAM:
            table = await self._service.predict_table(body, caller, override)
            request_id, epoch = table.request_id, table.route.epoch
            if not wants_arrow:
                answer = {"request_id": request_id, "epoch": epoch, "predictions": table.rows.to_pylist()}
                await _send(send, 200, JSON, orjson.dumps(answer), reply)
                return
            data = write_table(table.rows)
        else:
            answered = await self._service.predict_json(body, caller, override)
            if not wants_arrow:
                await _send(send, 200, JSON, orjson.dumps(answered.body), reply)
                return
            request_id, epoch = answered.request_id, answered.route.epoch
            data = write_table(pa.Table.from_pylist([p.to_json() for p in answered.predictions]))
        about = [(b"x-millrace-request-id", request_id.encode()), (b"x-millrace-epoch", str(epoch).encode())]
        await _send(send, 200, ARROW_STREAM, data, [*reply, *about])

    async def _pass_on(
        self, scope: Scope, body: bytes, caller: Caller, reply: list[tuple[bytes, bytes]], receive: Receive, send: Send
    ) -> int:
        status, given = 500, False
        asked = f"{scope['method']} {_path(scope)[:200]}"

        def refused(error: MillraceError) -> None:
            self._note(error, caller.grant, asked, caller.request_id)

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *reply]
            await send(message)

        await self._inner({**scope, CALLER: caller, REFUSED: refused}, replay, send_on)
        return status

    async def _refuse(
        self, error: MillraceError, grant: Grant | None, path: str, method: str, request_id: str,
        reply: list[tuple[bytes, bytes]], send: Send,
    ) -> None:
        self._note(error, grant, f"{method} {path[:200]}", request_id)
        headers = [*reply, *error_headers(error)]
        await send_error(send, path, error.http_status, error.code, error.message, error.detail, headers)

    def _note(self, error: MillraceError, grant: Grant | None, asked: str, request_id: str) -> None:
        status = error.http_status
        if status in (401, 403):
            self._service.authenticator.deny(grant, asked, error.code)
        level = logging.ERROR if status >= 500 else logging.DEBUG
        said = error.message if status >= 500 else error.code  # a message may quote what was sent
        logger.log(level, "%s (request %s): %d %s", asked, request_id, status, said)
        self._service.metrics.refused(status, error.code)


def error_headers(error: MillraceError) -> list[tuple[bytes, bytes]]:
    """Headers that an error's status asks for."""
    if error.http_status == 401:
        return [(b"www-authenticate", b"Bearer")]
    if error.http_status == 405:
        return [(b"allow", str(error.detail["allow"]).encode())]
    wait_s = error.detail.get("retry_after_s")
    return [(b"retry-after", str(max(1, math.ceil(wait_s))).encode())] if isinstance(wait_s, int | float) else []


def error_content(path: str, code: str, message: str, detail: dict[str, Any]) -> dict[str, Any]:
    """An error as JSON; under `/v2` in the form that the protocol's clients read."""
    plain = json.loads(json.dumps(detail, default=str))
    if path.startswith("/v2"):
        return {"error": message, "code": code, "detail": plain}
    return {"error": {"code": code, "message": message, "detail": plain}}


def _path(scope: Scope) -> str:
    """The path within the application, wherever it is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    inside: str = path[len(root) :] if root and path.startswith(root) else path
    return inside or "/"


def _text(headers: Headers, name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


def _media_type(headers: Headers) -> str:
    """The declared type of the body; without one it is taken for JSON."""
    value = headers.get(b"content-type")
    return JSON if value is None else value.decode("latin-1").partition(";")[0].strip().lower()


async def read_body(path: str, method: str, headers: Headers, receive: Receive) -> bytes:
    """The body, refused by type or announced size before it is read, and by its real size while it is.

    Raises:
        UnsupportedMediaError, RequestTooLargeError: see there.
        ClientGoneError: the client hung up.
    """
    limit = MAX_BODY_BYTES
    if method in ("POST", "PUT", "PATCH"):
        given, taken = _media_type(headers), media_types(path, headers)
        encoding = headers.get(b"content-encoding", b"identity").lower()
        if given not in taken or encoding != b"identity":
            raise UnsupportedMediaError(
                f"the body is {given[:100]!r}, encoded as {encoding.decode('latin-1')[:40]!r}; expected "
                f"{' or '.join(taken)}, not compressed.", expected=list(taken),
            )
        limit = MAX_ARROW_BYTES if given == ARROW_STREAM else MAX_BODY_BYTES
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(int(announced), limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise too_large(len(body), limit)
        return body
    parts, size = [], 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(size, limit)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def _send(send: Send, status: int, media_type: str, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = str(len(body)).encode()
    about = [(b"content-type", media_type.encode()), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": about})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, path: str, status: int, code: str, message: str, detail: dict[str, Any],
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Answers with an error as JSON."""
    content = json.dumps(error_content(path, code, message, detail)).encode()
    await _send(send, status, JSON, content, headers)
