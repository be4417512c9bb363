"""Answers prediction requests within one process: features, split, scores, log.

Blocking; the ingress gives it a thread.

`prepare` says what the candidate must be asked, `finish` takes its answer. Both see the same routing epoch,
whatever happens to the traffic in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.predictionlog.segment import SegmentWriter
from app.serving.answer import CandidateAnswer, Prediction, combine, rows_for_champion
from app.serving.follower import Followed
from app.serving.request import PredictRequest, parse_body, parse_predict
from app.serving.routing import Route
from app.serving.schema import RequestSchema, Row
from app.serving.traffic import Variant, read_override, split
from app.spec.features import FeatureService

Observe = Callable[[datetime, dict[str, list[Any]]], None]


class Scorer(Protocol):
    """A loaded version."""

    @property
    def feature_names(self) -> tuple[str, ...]: ...

    def predict(self, rows: list[Row]) -> npt.NDArray[np.float64]: ...


class OnlineFeatures(Protocol):
    """What the predictor needs of the feature store."""

    def get_online_features(
        self, features: FeatureService, entity_rows: list[Row], at: datetime | None = None
    ) -> list[Row]: ...


@dataclass(frozen=True)
class Pending:
    """A request on its way: what is asked, with features, and who is to answer which row."""

    request: PredictRequest
    at: datetime
    route: Route
    champion: Scorer
    rows: tuple[Row, ...]
    assigned: tuple[Variant, ...]
    started_at: float

    @property
    def candidate_rows(self) -> list[Row]:
        """Rows the candidate is asked for."""
        return [row for row, side in zip(self.rows, self.assigned, strict=True) if side == "candidate"]


@dataclass(frozen=True)
class Answered:
    """What goes back to the caller."""

    body: dict[str, Any]
    predictions: tuple[Prediction, ...]
    latency_s: float


class Predictor:
    """The champion's side of a replica. Used by one thread at a time.

    Args:
        observe: gets each answered batch's columns (features and `score`) for monitoring.
    """

    def __init__(
        self,
        schema: RequestSchema,
        service: FeatureService,
        store: OnlineFeatures,
        log: SegmentWriter,
        observe: Observe,
    ) -> None:
        self._schema = schema
        self._service = service
        self._store = store
        self._log = log
        self._observe = observe

    def prepare(self, body: bytes, override: str | None, followed: Followed[Any]) -> Pending:
        """Parses a request, looks its features up and splits its rows.

        Raises:
            RequestError: the caller must change the request.
        """
        started_at = time.perf_counter()
        route = followed.route
        champion: Scorer = followed.models[route.champion]
        request = parse_predict(parse_body(body), self._schema, champion.feature_names)
        wanted = read_override(override, has_candidate=route.candidate is not None)
        at = request.at or datetime.now(UTC)
        rows = request.rows if request.has_features else self._with_features(request.rows, at)
        names = champion.feature_names
        rows = tuple({name: row.get(name) for name in names} for row in rows)
        weight = route.weight_percent if route.candidate is not None else 0.0
        assigned = tuple(split(request.keys, weight, route.salt, wanted))
        return Pending(request, at, route, champion, rows, assigned, started_at)

    def finish(self, pending: Pending, candidate: CandidateAnswer) -> Answered:
        """Scores what the champion must answer, writes the log, then gives the answer.

        Raises:
            ModelError: the champion gave a score that is not finite.
            OSError: the log could not be written; the request is not answered.
        """
        wanted = rows_for_champion(pending.assigned, candidate)
        champion_scores: dict[int, float] = {}
        if wanted:
            scores = pending.champion.predict([pending.rows[i] for i in wanted])
            champion_scores = dict(zip(wanted, map(float, scores), strict=True))
        predictions = combine(
            pending.request.keys, pending.assigned, pending.route, champion_scores, candidate
        )
        latency_s = time.perf_counter() - pending.started_at
        self._log.append(_record(pending, predictions, latency_s))
        self._observe(pending.at, _columns(pending, predictions))
        body = {
            "request_id": pending.request.request_id,
            "epoch": pending.route.epoch,
            "predictions": [prediction.to_json() for prediction in predictions],
        }
        return Answered(body, tuple(predictions), latency_s)

    def _with_features(self, rows: Sequence[Row], at: datetime) -> tuple[Row, ...]:
        features = self._store.get_online_features(self._service, list(rows), at=at)
        return tuple({**row, **found} for row, found in zip(rows, features, strict=True))


def _record(pending: Pending, predictions: Sequence[Prediction], latency_s: float) -> dict[str, Any]:
    return {
        "request_id": pending.request.request_id,
        "at": pending.at.isoformat(),
        "epoch": pending.route.epoch,
        "rollout_id": pending.route.rollout_id,
        "latency_ms": latency_s * 1_000,
        "logged_timestamp": datetime.now(UTC).isoformat(),
        "rows": [
            {
                "key": p.key, "score": p.score, "assigned": p.variant, "answered_by": p.answered_by,
                "version": p.version, "error": p.error, "features": row,
            }
            for p, row in zip(predictions, pending.rows, strict=True)
        ],
    }


def _columns(pending: Pending, predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [row[name] for row in pending.rows] for name in pending.champion.feature_names
    }
    columns["score"] = [p.score for p in predictions]
    return columns
