"""Tables, caches, batches and the log: the same answers by whatever way they are asked for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.predictionlog.tables import PREDICTIONS, rows_of
from app.serving.answer import CandidateAnswer
from app.serving.arrow_bodies import ARROW_STREAM, write_table
from app.serving.batching import Batcher
from app.serving.caller import Caller, open_grant
from app.serving.limits import TokenBucket
from app.serving.score_cache import ScoreCache
from app.serving.trace_context import TraceContext, parse_traceparent
from app.spec.serving import Batching
from tests.unit.serving.conftest import Replica, feature_rows, orders
from tests.unit.serving.test_gate import post

ARROW = {"content-type": ARROW_STREAM}


def read(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    with pa.ipc.open_stream(response.content) as stream:
        rows: list[dict[str, Any]] = stream.read_all().to_pylist()
    return rows


@pytest.mark.parametrize(("kind", "rows"), [("rows", feature_rows(40)), ("entities", orders(40))])
def test_a_table_is_answered_like_its_rows(
    replica: Replica, admin: str, kind: str, rows: list[dict[str, Any]]
) -> None:
    ours = post(replica, admin, "/v1/predict", {kind: rows}).json()["predictions"]
    body = write_table(pa.Table.from_pylist(rows))
    assert read(post(replica, admin, "/v1/predict", body, headers={**ARROW, "accept": ARROW_STREAM})) == ours
    assert post(replica, admin, "/v1/predict", body, headers=ARROW).json()["predictions"] == ours
    assert read(post(replica, admin, "/v1/predict", {kind: rows}, headers={"accept": ARROW_STREAM})) == ours


def test_a_table_is_logged_row_by_row(replica: Replica, admin: str) -> None:
    rows = feature_rows(3)
    headers = {**ARROW, "x-request-id": "table"}
    answers = post(replica, admin, "/v1/predict", write_table(pa.Table.from_pylist(rows)), headers=headers).json()
    record = json.loads(replica.log()[-1].read_text().splitlines()[-1])
    logged = rows_of("predictions", [record])
    assert logged.schema == PREDICTIONS
    assert logged["score"].to_pylist() == [p["score"] for p in answers["predictions"]]
    wanted = [{"price": r["price"], "stock": r["stock"]} for r in rows]
    assert [json.loads(text) for text in logged["features"].to_pylist()] == wanted


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"price": [1.0], "stock": [float("nan")]}, "has NaN or infinity"),
        ({"price": [1.0], "stock": [float("inf")]}, "has NaN or infinity"),
        ({"price": ["1"], "stock": [1.0]}, "'price' is string; expected float64"),
        ({"price": [1.0], "stock": [1.0], "colour": [1]}, "unknown column 'colour'"),
        ({"price": [1.0]}, "lacks column 'order_id'"),
        ({"price": [1.0, 2.0], "stock": [1.0, 2.0], "order_id": ["a", "a"]}, "has a value twice"),
        ({"price": pa.array([], pa.float64()), "stock": pa.array([], pa.float64())}, "no rows"),
    ],
)
def test_wrong_tables_are_named(replica: Replica, admin: str, table: dict[str, Any], said: str) -> None:
    refused = post(replica, admin, "/v1/predict", write_table(pa.table(table)), headers=ARROW)
    assert refused.status_code == 422
    assert said in refused.json()["error"]["message"]


def test_rows_of_the_candidate_go_there_and_its_failures_come_back(replica: Replica, admin: str) -> None:
    service, route = replica.service, replica.routing.current("shop")
    route = replica.routing.write("shop", route.epoch, champion="1", candidate="2", weight_percent=40.0, reason="test")
    service._follower.poll()
    try:
        for body, headers in ((write_table(pa.Table.from_pylist(orders(200))), ARROW), ({"entities": orders(200)}, {})):
            found = post(replica, admin, "/v1/predict", body, headers=headers).json()["predictions"]
            by_candidate = [p for p in found if p["answered_by"] == "candidate"]
            assert 40 <= len(by_candidate) <= 120
            assert {(p["version"], p["score"]) for p in by_candidate} == {("2", 0.25)}
            replica.candidate_scores = ZeroDivisionError()
            failed = post(replica, admin, "/v1/predict", body, headers=headers).json()["predictions"]
            replica.candidate_scores = []
            assert {p["answered_by"] for p in failed} == {"champion"}
            assert [p["variant"] for p in failed] == [p["variant"] for p in found]
    finally:
        replica.routing.write("shop", route.epoch, champion="1", reason="test")
        service._follower.poll()


def test_a_cached_score_is_the_score(replica: Replica, admin: str) -> None:
    predictor = replica.service.predictor
    before = post(replica, admin, "/v1/predict", {"rows": feature_rows(5)}).json()["predictions"]
    predictor.cache = ScoreCache(4)
    try:
        for _ in range(2):
            assert post(replica, admin, "/v1/predict", {"rows": feature_rows(5)}).json()["predictions"] == before
        assert post(replica, admin, "/v1/predict", {"rows": feature_rows(5)[-2:]}).status_code == 200
        use = predictor.cache.use
    finally:
        predictor.cache = None
    assert (use.entries, use.hits >= 2) == (4, True)
    assert 0 < use.hit_rate < 1


def test_requests_scored_together_get_their_own_answers(replica: Replica) -> None:
    service = replica.service
    caller, followed = Caller(open_grant("tester"), "r"), service.followed
    pending = []
    for number in range(30):
        rows = [{"price": number / 30, "stock": 1.0 + i} for i in range(1 + number % 3)]
        request = service.predictor.parse(json.dumps({"rows": rows}).encode(), caller, followed)
        pending.append(service.predictor.begin(request, caller, None, followed))
    alone = [service.predictor.finish(p, CandidateAnswer()) for p in pending]

    async def together() -> tuple[list[Any], Batcher]:
        batcher = Batcher(Batching(max_rows=16), service._finish_together)
        return await asyncio.gather(*(batcher.finish(p, CandidateAnswer()) for p in pending)), batcher

    found, batcher = asyncio.run(together())
    assert [a.predictions for a in found] == [a.predictions for a in alone]
    assert batcher.num_requests == 30 and batcher.num_batches < 10


@given(st.floats(0.5, 100), st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_a_bucket_never_gives_more_than_rate_and_burst(rate_per_s: float, gaps_s: list[float]) -> None:
    bucket, now_s, taken = TokenBucket(rate_per_s, 0.0), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        wait_s = bucket.take(now_s)
        taken += wait_s == 0
        assert wait_s <= 1 / rate_per_s + 1e-9
    assert taken <= bucket.capacity + rate_per_s * now_s + 1e-6


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_a_trace_that_is_sent_on_is_the_same_trace(trace: int, span: int, sampled: bool) -> None:
    context = TraceContext(f"{trace:032x}", f"{span:016x}", sampled)
    assert parse_traceparent(context.header()) == context
    child = context.child()
    assert (child.trace_id, child.sampled) == (context.trace_id, sampled) and child.span_id != context.span_id


@given(st.text(max_size=60))
def test_what_is_no_trace_is_no_trace(text: str) -> None:
    assert parse_traceparent(text) is None
