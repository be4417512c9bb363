"""A candidate that is shown copies costs nobody anything, and what it said is on record."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.predictionlog.segment import SegmentWriter, read_lines
from app.predictionlog.tables import rows_of
from app.serving.answer import CandidateAnswer, Prediction
from app.serving.mirror import MAX_WAITING, Mirror, comparison, mirrored_places
from app.serving.predictor import Answered
from app.serving.routing import Route
from app.serving.schema import Row
from app.serving.table_copy import MAX_ROWS, TableCopy, table_copy
from app.serving.traffic import Variant

AT = datetime(2026, 1, 1, tzinfo=UTC)


def answered(num_rows: int = 4, percent: float = 100.0, candidate: str | None = "2", weight: float = 0.0) -> Answered:
    route = Route("m", 3, "1", candidate, weight, rollout_id="m-2-r1", mirror_percent=percent)
    predictions = tuple(Prediction(f"k{i}", i / 10, "1", "champion", "champion") for i in range(num_rows))
    return Answered("r1", AT, route, tuple({"x": float(i)} for i in range(num_rows)), predictions, 0.004, 0.001)


def kept(folder: Path) -> list[dict[str, object]]:
    lines = [line for path in sorted(folder.iterdir()) for line in read_lines(path, 0, 1 << 20)[0]]
    return rows_of("mirrored", lines).to_pylist()


def show(folder: Path, ask: object, *requests: Answered) -> Mirror:
    """Shows the requests at once and waits for all copies."""

    async def run() -> Mirror:
        with ThreadPoolExecutor(1) as writer:
            mirror = Mirror(ask, SegmentWriter(folder), writer)  # type: ignore[arg-type]
            for request in requests:
                mirror.show(request)
            while mirror._under_way:
                await asyncio.sleep(0.001)
        return mirror

    return asyncio.run(run())


async def doubles(version: str, rows: list[Row]) -> CandidateAnswer:
    assert version == "2"
    return CandidateAnswer(tuple(row["x"] / 5 for row in rows))


def test_both_scores_are_on_record(tmp_path: Path) -> None:
    show(tmp_path, doubles, answered(3))
    rows = kept(tmp_path)
    assert [(r["key"], r["score"], r["mirror_score"], r["mirror_error"]) for r in rows] == [
        ("k0", 0.0, 0.0, None), ("k1", 0.1, 0.2, None), ("k2", 0.2, 0.4, None)
    ]
    assert {(r["version"], r["mirror_version"], r["rollout_id"], r["latency_ms"]) for r in rows} == {
        ("1", "2", "m-2-r1", 4.0)
    }


def test_a_failure_is_on_record(tmp_path: Path) -> None:
    async def fails(version: str, rows: list[Row]) -> CandidateAnswer:
        return CandidateAnswer(error="no answer within 2 s")

    show(tmp_path, fails, answered(2))
    assert {(r["mirror_score"], r["mirror_error"]) for r in kept(tmp_path)} == {(None, "no answer within 2 s")}


@pytest.mark.parametrize(
    "request_", [answered(percent=0.0), answered(candidate=None)], ids=["no share", "no candidate"]
)
def test_nothing_is_shown_unasked(tmp_path: Path, request_: Answered) -> None:
    mirror = show(tmp_path, doubles, request_)
    assert (mirror.num_shown, kept(tmp_path)) == (0, [])


def test_a_slow_candidate_is_shown_less(tmp_path: Path) -> None:
    async def slow(version: str, rows: list[Row]) -> CandidateAnswer:
        await asyncio.sleep(0.05)
        return await doubles(version, rows)

    mirror = show(tmp_path, slow, *[answered(1)] * (MAX_WAITING + 5))
    assert (mirror.num_shown, mirror.num_left_out) == (MAX_WAITING, 5)


@given(num_rows=st.integers(0, 300), percent=st.floats(0, 100), more=st.floats(0, 100))
def test_the_share_is_sticky_and_only_grows(num_rows: int, percent: float, more: float) -> None:
    low, high = sorted((percent, more))
    fewer, others = (set(mirrored_places(answered(num_rows, p))) for p in (low, high))
    assert fewer <= others
    assert mirrored_places(answered(num_rows, 100.0)) == list(range(num_rows))


def test_rows_the_candidate_answered_itself_are_not_shown_again() -> None:
    request = answered(2)
    own = Prediction("k0", 0.0, "2", "candidate", "candidate")
    mixed = Answered("r1", AT, request.route, request.rows, (own, request.predictions[1]), 0.004, 0.001)
    assert mirrored_places(mixed) == [1]


def copied(num_rows: int, percent: float = 100.0, assigned: list[Variant] | None = None) -> TableCopy | None:
    route = Route("m", 3, "1", "2", 10.0, rollout_id="m-2-r1", mirror_percent=percent)
    keys = [f"k{i}" for i in range(num_rows)]
    numbers = pa.chunked_array([[float(i) for i in range(num_rows)]])
    features = pa.table({"x": numbers})
    return table_copy("r1", AT, route, keys, assigned or ["champion"] * num_rows, features, numbers, 0.004)


def test_rows_of_a_table_are_shown_as_rows_are(tmp_path: Path) -> None:
    copy = copied(4, assigned=["champion", "candidate", "champion", "champion"])
    assert copy is not None and copy.num_left_out == 0
    show(tmp_path, doubles, copy.answered)
    assert [(r["key"], r["score"], r["mirror_score"]) for r in kept(tmp_path)] == [
        ("k0", 0.0, 0.0), ("k2", 2.0, 0.4), ("k3", 3.0, 0.6)
    ]  # fmt: skip


def test_of_a_large_table_the_first_rows_are_shown_and_the_others_counted() -> None:
    copy = copied(MAX_ROWS + 7)
    assert copy is not None
    assert (len(copy.answered.rows), copy.num_left_out) == (MAX_ROWS, 7)
    assert mirrored_places(copy.answered) == list(range(MAX_ROWS)), "none is left out a second time"


@given(num_rows=st.integers(0, 200), percent=st.floats(0, 100))
def test_a_key_is_shown_in_a_table_when_it_is_in_a_row(num_rows: int, percent: float) -> None:
    copy = copied(num_rows, percent)
    shown = [] if copy is None else [int(row["x"]) for row in copy.answered.rows]
    assert shown == mirrored_places(answered(num_rows, percent))


def test_scores_that_are_not_finite_are_failures() -> None:
    record = comparison(answered(2), [0, 1], CandidateAnswer((float("nan"), 0.5)), 0.001)
    assert [(r["mirror_score"], r["mirror_error"]) for r in record["rows"]] == [(None, "not_finite"), (0.5, None)]
