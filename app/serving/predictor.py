"""Answers prediction requests within one process: features, split, scores, log.

Blocking; who calls it decides on which thread. `begin` says what the candidate must be asked, `finish` takes its
answer. Both see the same routing epoch, whatever happens to the traffic in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.errors import MillraceError, ModelError, RequestError
from app.foundation.access import redact
from app.predictionlog.segment import SegmentWriter
from app.serving.answer import CandidateAnswer, Prediction, combine, rows_for_champion
from app.serving.caller import Caller
from app.serving.follower import Followed
from app.serving.request import PredictRequest, parse_body, parse_predict
from app.serving.routing import Route
from app.serving.schema import RequestSchema, Row
from app.serving.score_cache import Key, ScoreCache
from app.serving.traffic import Variant, position, read_override, split
from app.spec.features import FeatureService

Observe = Callable[[datetime, Sequence[Row], Sequence[float]], None]


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


@dataclass(frozen=True, slots=True)
class Pending:
    """A request on its way: what is asked, with features, and who is to answer which row."""

    request: PredictRequest
    caller: Caller
    at: datetime
    route: Route
    champion: Scorer
    rows: tuple[Row, ...]
    assigned: tuple[Variant, ...]
    overridden: bool  # a header dealt the rows, not the split
    started_at: float

    @property
    def candidate_rows(self) -> list[Row]:
        """Rows the candidate is asked for."""
        return [row for row, side in zip(self.rows, self.assigned, strict=True) if side == "candidate"]


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back to the caller. `model_s`: time in the champion, for all requests scored together."""

    request_id: str
    at: datetime
    route: Route
    rows: tuple[Row, ...]
    predictions: tuple[Prediction, ...]
    latency_s: float
    model_s: float

    @property
    def body(self) -> dict[str, Any]:
        """As sent to the caller."""
        return {
            "request_id": self.request_id,
            "epoch": self.route.epoch,
            "predictions": [prediction.to_json() for prediction in self.predictions],
        }


class Predictor:
    """The champion's side of a replica. Scoring may be done by several threads; looking features up by one.

    Args:
        observe: gets answered rows and their scores for monitoring.
        features_share: share of requests whose features are logged.
        cache: scores of the champion to use again; `None`: none is.
        hidden: inputs whose values the log must not keep.
    """

    def __init__(
        self,
        schema: RequestSchema,
        service: FeatureService,
        store: OnlineFeatures,
        log: SegmentWriter,
        observe: Observe,
        features_share: float = 1.0,
        cache: ScoreCache | None = None,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self._schema = schema
        self._service = service
        self._store = store
        self._log = log
        self._observe = observe
        self._features_share = features_share
        self.cache = cache
        self._hidden = hidden

    def parse(self, body: bytes, caller: Caller, followed: Followed[Any]) -> PredictRequest:
        """The request in a JSON body.

        Raises:
            RequestError: the caller must change the request.
        """
        champion: Scorer = followed.models[followed.route.champion]
        return parse_predict(parse_body(body), self._schema, champion.feature_names, caller.request_id)

    def begin(
        self, request: PredictRequest, caller: Caller, override: str | None, followed: Followed[Any]
    ) -> Pending:
        """Looks the features of a request up and splits its rows.

        Raises:
            RequestError: the caller must change the request.
        """
        started_at = time.perf_counter()
        route = followed.route
        champion: Scorer = followed.models[route.champion]
        wanted = read_override(override, has_candidate=route.candidate is not None)
        at = request.at or datetime.now(UTC)
        rows = request.rows if request.has_features else self._with_features(request.rows, at)
        names = champion.feature_names
        rows = tuple({name: row.get(name) for name in names} for row in rows)
        weight = route.weight_percent if route.candidate is not None else 0.0
        assigned = tuple(split(request.keys, weight, route.salt, wanted))
        return Pending(request, caller, at, route, champion, rows, assigned, wanted is not None, started_at)

    def finish(self, pending: Pending, candidate: CandidateAnswer) -> Answered:
        """Scores what the champion must answer, writes the log, then gives the answer.

        Raises:
            ModelError: the champion gave a score that is not finite.
            OSError: the log could not be written; the request is not answered.
        """
        wanted = rows_for_champion(pending.assigned, candidate)
        began = time.perf_counter()
        scores = self._scores(pending.champion, pending.route, [pending.rows[i] for i in wanted])
        model_s = time.perf_counter() - began
        return self._answer(pending, candidate, dict(zip(wanted, scores, strict=True)), model_s)

    def finish_together(
        self, waiting: Sequence[tuple[Pending, CandidateAnswer]]
    ) -> list[Answered | Exception]:
        """`finish` for several requests with one call of the model; the failure of one is a value and its own.

        Requests of different versions are not mixed.
        """
        results: list[Answered | Exception | None] = [None] * len(waiting)
        by_version: dict[str, list[int]] = {}
        for place, (pending, _) in enumerate(waiting):
            by_version.setdefault(pending.route.champion, []).append(place)
        for places in by_version.values():
            wanted = {i: rows_for_champion(waiting[i][0].assigned, waiting[i][1]) for i in places}
            rows = [waiting[i][0].rows[row] for i in places for row in wanted[i]]
            first = waiting[places[0]][0]
            began = time.perf_counter()
            try:
                scores = iter(self._scores(first.champion, first.route, rows))
            except Exception as error:  # noqa: BLE001 whatever a model raises is the answer to each of these requests
                for i in places:
                    results[i] = error
                continue
            model_s = time.perf_counter() - began
            for i in places:
                pending, candidate = waiting[i]
                own = {row: next(scores) for row in wanted[i]}
                try:
                    results[i] = self._answer(pending, candidate, own, model_s)
                except Exception as error:  # noqa: BLE001 of one request, not of those scored with it
                    results[i] = error
        return [result for result in results if result is not None]

    def _answer(
        self, pending: Pending, candidate: CandidateAnswer, champion_scores: dict[int, float], model_s: float
    ) -> Answered:
        predictions = combine(pending.request.keys, pending.assigned, pending.route, champion_scores, candidate)
        latency_s = time.perf_counter() - pending.started_at
        self._log.append(_record(pending, predictions, latency_s, self._logged(pending)))
        self._observe(pending.at, pending.rows, [p.score for p in predictions])
        return Answered(
            pending.request.request_id, pending.at, pending.route, pending.rows, tuple(predictions), latency_s, model_s
        )

    def _scores(self, champion: Scorer, route: Route, rows: list[Row]) -> list[float]:
        if not rows:
            return []
        if self.cache is None:
            return _ask(champion, route, rows)
        keys: list[Key] = [(route.champion, *map(_hashable, row.values())) for row in rows]
        found = self.cache.find(keys)
        lacking = [i for i, score in enumerate(found) if score is None]
        if lacking:
            fresh = _ask(champion, route, [rows[i] for i in lacking])
            self.cache.keep([keys[i] for i in lacking], fresh)
            for i, score in zip(lacking, fresh, strict=True):
                found[i] = score
        return [score for score in found if score is not None]

    def _logged(self, pending: Pending) -> Sequence[Row | None]:
        """The features of each row for the log, `None` where the request is not among those logged with theirs.

        Decided by the request's id: an attempt made again is logged like the first.
        """
        share = self._features_share
        if share < 1.0 and position(pending.request.request_id, "log") >= share * 100.0:
            return [None] * len(pending.rows)
        return [redact(row, self._hidden) for row in pending.rows] if self._hidden else pending.rows

    def _with_features(self, rows: Sequence[Row], at: datetime) -> tuple[Row, ...]:
        features = self._store.get_online_features(self._service, list(rows), at=at)
        return tuple({**row, **found} for row, found in zip(rows, features, strict=True))


def _ask(champion: Scorer, route: Route, rows: list[Row]) -> list[float]:
    """Raises: RequestError: a model that takes no nulls got some; ModelError: it failed on whole rows."""
    try:
        scores: list[float] = champion.predict(rows).tolist()
        return scores
    except (ValueError, TypeError) as error:
        raise failed_to_score(route, [name for name in rows[0] if any(row[name] is None for row in rows)]) from error


def failed_to_score(route: Route, nulls: Sequence[str]) -> MillraceError:
    """What a champion's own error means: the caller can mend nulls, nothing else."""
    if nulls:
        return RequestError(
            f"version {route.champion} of {route.model!r} takes no nulls, but {', '.join(nulls)} had some (unknown "
            "entities have nulls for features). Send full rows, or leave these rows out.",
            field=nulls[0],
        )
    return ModelError(f"version {route.champion} of {route.model!r} failed to score. The service's log says why.")


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _record(
    pending: Pending, predictions: Sequence[Prediction], latency_s: float, logged: Sequence[Row | None]
) -> dict[str, Any]:
    return {
        "request_id": pending.request.request_id,
        "at": pending.at.isoformat(),
        "epoch": pending.route.epoch,
        "rollout_id": pending.route.rollout_id,
        "overridden": pending.overridden,
        "latency_ms": latency_s * 1_000,
        "logged_timestamp": datetime.now(UTC).isoformat(),
        "trace_id": pending.caller.trace_id,
        "principal": pending.caller.grant.principal,
        "rows": [
            {
                "key": p.key, "score": p.score, "assigned": p.variant, "answered_by": p.answered_by,
                "version": p.version, "error": p.error, "features": row,
            }
            for p, row in zip(predictions, logged, strict=True)
        ],
    }
