"""Every request passes the gate: tokens, scopes, limits, ids, and errors that say what was expected."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from app.foundation.state import models as m
from app.serving.gate import Gate
from tests.unit.serving.conftest import Replica, feature_rows, orders


def ask(replica: Replica, token: str | None, act: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> Any:
    async def run() -> httpx.Response:
        async with replica.client(token) as client:
            return await act(client)

    return asyncio.run(run())


def post(replica: Replica, token: str | None, path: str, body: Any, **more: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **more.pop("headers", {})}
    found: httpx.Response = ask(replica, token, lambda c: c.post(path, content=content, headers=headers))
    return found


def get(replica: Replica, token: str | None, path: str) -> httpx.Response:
    found: httpx.Response = ask(replica, token, lambda c: c.get(path))
    return found


@pytest.mark.parametrize("path", ["/v1/status", "/openapi.json", "/docs", "/v2", "/v2/models/shop", "/nowhere"])
def test_nothing_but_health_is_open(replica: Replica, path: str) -> None:
    refused = get(replica, None, path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    for health in ("/v2/health/live", "/v2/health/ready"):
        assert get(replica, None, health).status_code == 200


def test_scopes_are_what_a_token_may_do(replica: Replica) -> None:
    predict = replica.tokens.create("app", ["predict"], "test")[0]
    assert post(replica, predict, "/v1/predict", {"entities": orders(3)}).status_code == 200
    labels = {"labels": [{"key": "a", "label": 1, "available_timestamp": "2026-01-01T00:00:00Z"}]}
    refused = post(replica, predict, "/v1/labels", labels)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")
    assert refused.json()["error"]["detail"]["scope"] == "labels"
    assert post(replica, replica.tokens.create("app", ["labels"], "t")[0], "/v1/labels", labels).status_code == 200
    assert post(replica, predict, "/v1/features/online", {"entities": [{"shop": "s1"}]}).status_code == 403
    reader = replica.tokens.create("app", ["features:read:*"], "test")[0]
    read = post(replica, reader, "/v1/features/online", {"entities": [{"shop": "s1"}]})
    assert read.json()["features"][0]["stock"] == 1.0
    row = {"shop": "s9", "stock": 1.0, "at": "2026-01-01T00:00:00Z"}
    assert post(replica, reader, "/v1/features/push", {"source": "stock", "rows": [row]}).status_code == 403
    pusher = replica.tokens.create("app", ["features:push:*"], "test")[0]
    assert post(replica, pusher, "/v1/features/push", {"source": "stock", "rows": [row]}).status_code == 200


def test_a_token_ends_when_it_expires_or_is_revoked(replica: Replica) -> None:
    short = replica.tokens.create("app", ["predict"], "test", timedelta(microseconds=1))[0]
    assert post(replica, short, "/v1/predict", {"entities": orders(1)}).status_code == 401
    token, record = replica.tokens.create("app", ["predict"], "test")
    assert post(replica, token, "/v1/predict", {"entities": orders(1)}).status_code == 200
    replica.tokens.revoke(record.grant.token_id, "test")
    replica.service.authenticator.refresh()
    refused = post(replica, token, "/v1/predict", {"entities": orders(1)})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "token_unknown")


def test_denials_are_audited_without_the_token(replica: Replica, caplog: pytest.LogCaptureFixture) -> None:
    foreign = "mr_this-is-somebody-elses-secret"
    token, record = replica.tokens.create("curious", ["labels"], "test")
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            post(replica, foreign, "/v1/predict", {"entities": orders(1)})
        post(replica, token, "/v1/predict", {"entities": orders(1)})
    replica.service.authenticator.audit()
    with replica.database.session() as session:
        denied = session.query(m.Decision).filter_by(decision="denied").all()
    kept: Counter[tuple[str, str, str]] = Counter()
    for d in denied:
        kept[(d.actor, d.subject, d.reason)] += d.detail["times"]
    assert kept[("nobody known", "POST /v1/predict", "token_unknown")] >= 3
    assert kept[(f"curious (token {record.grant.token_id})", "POST /v1/predict", "scope_missing")] == 1
    assert foreign not in str(kept) + caplog.text and token not in str(kept) + caplog.text


def test_open_access_asks_nobody(replica: Replica) -> None:
    service = replica.service
    before, service.settings = service.settings, replace(service.settings, open_access=True)
    opened = Replica.__new__(Replica)
    opened.gate = Gate(service, replica.gate._inner)
    try:
        assert get(opened, None, "/v1/status").json()["open_access"] is True
    finally:
        service.settings = before


INVALID, UNKNOWN = "request_invalid", "name_unknown"


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "said"),
    [
        ("/v1/predict", b"{", 400, "request_malformed", "not JSON"),
        ("/v1/predict", b"[" * 200_000, 400, "request_malformed", "not JSON"),
        ("/v1/predict", b'{"rows": ' + b'{"a":' * 100_000, 400, "request_malformed", "not JSON"),
        ("/v1/predict", b'{"rows": [{"price": NaN, "stock": 1}]}', 400, "request_malformed", "NaN"),
        ("/v1/predict", b'{"rows": [{"price": Infinity, "stock": 1}]}', 400, "request_malformed", "Infinity"),
        ("/v1/predict", b'{"rows": [{"price": 1e999, "stock": 1}]}', 422, INVALID, "rows[0].price"),
        ("/v1/predict", b'{"rows": [{"price": "1", "stock": 1}]}', 422, INVALID, "expected float64"),
        ("/v1/predict", b'{"rows": [{"price": true, "stock": 1}]}', 422, INVALID, "a boolean"),
        ("/v1/predict", b'{"rows": [{"price": 1}]}', 422, INVALID, "lacks field 'stock'"),
        ("/v1/predict", b'{"rows": [{"price": 1, "stock": 1, "colour": 1}]}', 422, INVALID, "colour"),
        ("/v1/predict", b'{"entities": [{"order_id": null, "shop": "", "price": 1}]}', 422, INVALID, "is"),
        ("/v1/predict", b"\xff\xfe", 400, "request_malformed", "not JSON"),
        ("/v1/predict", b'{"entities": [{"order_id": "\\ud800", "shop": "s", "price": 1}]}', 422, INVALID, ""),
        ("/v1/predict", b'{"entities": [{"order_id": "a", "shop": "?", "price": 1}]}', 422, INVALID, "null"),
        ("/v1/predict", b'{"rows": [{"price": 1' + b"0" * 400 + b', "stock": 1}]}', 422, INVALID, "float64"),
        ("/v1/predict", b'{"rows": [{}], "at": "0001-01-01T00:00+09:00"}', 422, INVALID, "at is"),
        ("/v1/predict", b" " * 9_000_000, 413, "request_too_large", "8388608"),
        ("/v1/features/online", b'{"entities": [{"shop": "a"}], "features": ["no:x"]}', 404, UNKNOWN, "stock_now"),
        ("/v1/features/online", b'{"entities": [{"town": "a"}]}', 422, INVALID, "unknown field 'town'"),
        ("/v1/features/push", b'{"source": "nobody", "rows": []}', 404, "name_unknown", "stock"),
        ("/v1/labels", b'{"labels": [{"key": "a"}]}', 422, INVALID, "labels[0]"),
        ("/v1/nothing", b"{}", 404, "http_error", "/v1/nothing"),
        ("/v1/status", b"{}", 405, "http_error", "Method Not Allowed"),
    ],
)
def test_bad_input_is_the_callers_and_named(
    replica: Replica, admin: str, path: str, body: bytes, status: int, code: str, said: str
) -> None:
    refused = post(replica, admin, path, body)
    assert refused.status_code == status, refused.text
    assert refused.json()["error"]["code"] == code
    assert said in refused.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{"content-type": "text/plain"}, {"content-encoding": "gzip"}])
def test_bodies_of_other_types_are_not_read(replica: Replica, admin: str, headers: dict[str, str]) -> None:
    refused = post(replica, admin, "/v1/predict", {"entities": orders(1)}, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (415, "media_type_unsupported")


def test_other_methods_are_told_which_one(replica: Replica, admin: str) -> None:
    refused = get(replica, admin, "/v1/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_rate_is_kept_and_says_when_to_come_back(replica: Replica) -> None:
    token = replica.tokens.create("hasty", ["predict"], "test", rate_per_s=1.0)[0]
    statuses = [post(replica, token, "/v1/predict", {"entities": orders(1)}) for _ in range(4)]
    assert [r.status_code for r in statuses][:2] == [200, 200]
    assert statuses[-1].status_code == 429
    assert statuses[-1].json()["error"]["code"] == "rate_limited"
    assert int(statuses[-1].headers["retry-after"]) >= 1


def test_more_than_a_replica_takes_is_told_to_come_back(replica: Replica, admin: str) -> None:
    gate = replica.gate
    gate._in_flight.limit, before = 2, gate._in_flight.limit

    async def many() -> list[httpx.Response]:
        async with replica.client(admin) as client:
            body = {"entities": orders(2_000)}
            return await asyncio.gather(*(client.post("/v1/predict", json=body) for _ in range(6)))

    try:
        found = asyncio.run(many())
    finally:
        gate._in_flight.limit = before
    assert {r.status_code for r in found} == {200, 429}
    busy = next(r for r in found if r.status_code == 429)
    assert (busy.json()["error"]["code"], busy.headers["retry-after"]) == ("overloaded", "1")
    assert gate._in_flight.now == 0


def test_a_request_that_takes_too_long_is_given_up(replica: Replica, admin: str) -> None:
    service = replica.service
    before, service.policy = service.policy, replace(service.policy, request_timeout_s=1e-6)
    try:
        late = post(replica, admin, "/v1/predict", {"entities": orders(500)})
    finally:
        service.policy = before
    assert (late.status_code, late.json()["error"]["code"]) == (504, "request_timeout")
    assert post(replica, admin, "/v1/predict", {"entities": orders(5)}).status_code == 200


def test_ids_and_traces_go_through(replica: Replica, admin: str) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-request-id": "mine", "traceparent": trace}
    answer = post(replica, admin, "/v1/predict", {"rows": feature_rows(1)}, headers=headers)
    assert answer.json()["request_id"] == "mine"
    sent = answer.headers["traceparent"].split("-")
    assert (sent[1], sent[3]) == ("0af7651916cd43dd8448eb211c80319c", "01") and sent[2] != "b7ad6b7169203331"
    last = json.loads(replica.log()[-1].read_text().splitlines()[-1])
    assert (last["request_id"], last["trace_id"], last["principal"]) == (
        "mine", "0af7651916cd43dd8448eb211c80319c", "tester"
    )
    made = get(replica, admin, "/v1/status").headers["x-request-id"]
    assert made and made != get(replica, admin, "/v1/status").headers["x-request-id"]


def test_what_fails_inside_shows_no_stack(replica: Replica, admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(replica.service.predictor, "begin", broken)
    failed = post(replica, admin, "/v1/predict", {"rows": feature_rows(1)})
    assert (failed.status_code, failed.json()["error"]["code"]) == (500, "internal_error")
    assert "secret" not in failed.text and "Traceback" not in failed.text
