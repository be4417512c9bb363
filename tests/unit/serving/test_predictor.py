"""A request from body to answer in one process, with the log written before the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from app.errors import RequestError
from app.predictionlog.segment import SegmentWriter
from app.serving.answer import CandidateAnswer
from app.serving.caller import Caller, open_grant
from app.serving.follower import Followed
from app.serving.predictor import Predictor
from app.serving.routing import Route
from app.serving.schema import RequestSchema, Row
from app.spec.features import FeatureService

SCHEMA = RequestSchema("id", {"id": "string", "shop": "string", "price": "float64"}, {"price": "float64"})
AT = datetime(2026, 1, 1, tzinfo=UTC)


class Sum:
    """Scores a row by its features' sum."""

    feature_names = ("price", "stock")

    def predict(self, rows: list[Row]) -> npt.NDArray[np.float64]:
        return np.array([row["price"] + row["stock"] for row in rows])


class Store:
    def get_online_features(self, features: Any, entity_rows: list[Row], at: datetime | None = None) -> list[Row]:
        assert at == AT
        return [{"stock": float(len(row["shop"]))} for row in entity_rows]


class Harness:
    def __init__(self, folder: Path, route: Route, hidden: frozenset[str] = frozenset()) -> None:
        self.seen: list[tuple[datetime, Sequence[dict[str, Any]], Sequence[float]]] = []
        self.folder = folder
        self.predictor = Predictor(
            SCHEMA, FeatureService("s", ("v:stock",)), Store(), SegmentWriter(folder),
            lambda at, rows, scores: self.seen.append((at, rows, scores)), hidden=hidden,
        )
        self.followed = Followed(route, {"1": Sum()})

    def ask(self, num_rows: int, override: str | None = None) -> Any:
        rows = [{"id": f"k{i}", "shop": "abc", "price": float(i)} for i in range(num_rows)]
        body = json.dumps({"entities": rows, "at": AT.isoformat(), "request_id": "r"}).encode()
        caller = Caller(open_grant("tester"), "given by the transport")
        request = self.predictor.parse(body, caller, self.followed)
        return self.predictor.begin(request, caller, override, self.followed)

    def log(self) -> list[dict[str, Any]]:
        (path,) = self.folder.glob("*.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


def test_champion_alone(tmp_path: Path) -> None:
    harness = Harness(tmp_path, Route("m", 7, "1"))
    answered = harness.predictor.finish(harness.ask(3), CandidateAnswer())
    assert answered.body["epoch"] == 7
    assert [p["score"] for p in answered.body["predictions"]] == [3.0, 4.0, 5.0]
    (record,) = harness.log()
    assert record["request_id"] == "r"
    assert [row["features"] for row in record["rows"]] == [{"price": float(i), "stock": 3.0} for i in range(3)]
    assert harness.seen == [(AT, tuple({"price": float(i), "stock": 3.0} for i in range(3)), [3.0, 4.0, 5.0])]


def test_the_log_keeps_no_personal_value(tmp_path: Path) -> None:
    harness = Harness(tmp_path, Route("m", 7, "1"), frozenset({"stock"}))
    answered = harness.predictor.finish(harness.ask(1), CandidateAnswer())
    assert [p["score"] for p in answered.body["predictions"]] == [3.0]
    (record,) = harness.log()
    assert record["rows"][0]["features"] == {"price": 0.0, "stock": "[redacted]"}


def test_split_and_fallback(tmp_path: Path) -> None:
    harness = Harness(tmp_path, Route("m", 7, "1", "2", 50.0, rollout_id="r1"))
    pending = harness.ask(40)
    num_asked = len(pending.candidate_rows)
    assert 0 < num_asked < 40
    good = harness.predictor.finish(pending, CandidateAnswer(tuple([0.5] * num_asked)))
    bad = harness.predictor.finish(pending, CandidateAnswer(error="TimeoutError"))
    assert sum(p.answered_by == "candidate" for p in good.predictions) == num_asked
    assert {p.answered_by for p in bad.predictions} == {"champion"}
    assert sum(row["error"] == "TimeoutError" for row in harness.log()[1]["rows"]) == num_asked


def test_nobody_is_asked_at_weight_without_candidate(tmp_path: Path) -> None:
    harness = Harness(tmp_path, Route("m", 7, "1", None, 50.0))
    assert harness.ask(40).candidate_rows == []
    with pytest.raises(RequestError, match="none is deployed"):
        harness.ask(1, "candidate")
