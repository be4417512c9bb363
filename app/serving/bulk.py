"""Predictions for whole tables: the same rules as for rows, in columns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.errors import ModelError
from app.features.arrow_types import ARROW_TYPES
from app.foundation.access.redaction import HIDDEN
from app.predictionlog.segment import SegmentWriter
from app.predictionlog.tables import pack_rows
from app.serving.answer import CandidateAnswer
from app.serving.arrow_bodies import check_table, read_table, table_keys
from app.serving.caller import Caller
from app.serving.follower import Followed
from app.serving.predictor import OnlineFeatures, failed_to_score
from app.serving.routing import Route
from app.serving.schema import RequestSchema, Row
from app.serving.table_copy import TableCopy, table_copy
from app.serving.traffic import Variant, read_override, split
from app.spec.features import FeatureService

ObserveTable = Callable[[datetime, pa.Table, Sequence[float]], None]


@dataclass(frozen=True)
class BulkPending:
    """A table on its way. `features`: what the champion reads, a column each."""

    caller: Caller
    at: datetime
    route: Route
    champion: Any
    keys: tuple[str, ...]
    features: pa.Table
    assigned: tuple[Variant, ...]
    overridden: bool
    started_at: float

    @property
    def candidate_places(self) -> list[int]:
        """Rows the candidate is asked for."""
        return [i for i, side in enumerate(self.assigned) if side == "candidate"]

    @property
    def candidate_rows(self) -> list[Row]:
        """What the candidate is asked."""
        places = self.candidate_places
        rows: list[Row] = self.features.take(places).to_pylist() if places else []
        return rows


@dataclass(frozen=True)
class BulkAnswered:
    """`rows`: key, score, version, variant and who answered, in the order asked; `copy`: what is mirrored of them."""

    request_id: str
    route: Route
    rows: pa.Table
    latency_s: float
    copy: TableCopy | None = None


class BulkPredictor:
    """Blocking, like `Predictor`; beside it in the thread that looks features up."""

    def __init__(
        self, schema: RequestSchema, service: FeatureService, store: OnlineFeatures, log: SegmentWriter,
        observe: ObserveTable, features_share: float = 1.0, hidden: frozenset[str] = frozenset(),
    ) -> None:
        self._schema = schema
        self._service = service
        self._store = store
        self._log = log
        self._hidden = hidden
        self._observe = observe
        self._features_share = features_share

    def begin(self, body: bytes, caller: Caller, override: str | None, followed: Followed[Any]) -> BulkPending:
        """Reads a table, looks its features up if they are not there, splits its rows.

        Raises:
            RequestError: the caller must change the request.
        """
        started_at = time.perf_counter()
        route, at = followed.route, datetime.now(UTC)
        champion = followed.models[route.champion]
        wanted = read_override(override, has_candidate=route.candidate is not None)
        table, has_features = check_table(read_table(body), self._schema, champion.feature_names)
        keys = table_keys(table, self._schema.key, not has_features)
        if not has_features:
            found = self._store.get_online_features(self._service, table.to_pylist(), at=at)
            types = {**self._schema.entity, **self._schema.features}
            names = [n for n in champion.feature_names if n in types]
            table = pa.table({n: pa.array([row.get(n) for row in found], ARROW_TYPES[types[n]]) for n in names})
        weight = route.weight_percent if route.candidate is not None else 0.0
        assigned = tuple(split(keys, weight, route.salt, wanted))
        lacking = {n: pa.nulls(table.num_rows) for n in champion.feature_names if n not in table.column_names}
        columns = {n: lacking[n] if n in lacking else table[n] for n in champion.feature_names}
        features = pa.table(columns)
        return BulkPending(caller, at, route, champion, keys, features, assigned, wanted is not None, started_at)

    def finish(self, pending: BulkPending, candidate: CandidateAnswer) -> BulkAnswered:
        """Scores what the champion must answer, writes the log, then gives the answer.

        Raises:
            ModelError: the champion gave a score that is not finite.
            OSError: the log could not be written; the request is not answered.
        """
        route, num_rows = pending.route, len(pending.keys)
        asked = pending.candidate_places
        failures = candidate.usable(len(asked))
        good = [n for n, failure in enumerate(failures) if failure is None and route.candidate is not None]
        scores, by_candidate = np.full(num_rows, np.nan), np.zeros(num_rows, dtype=bool)
        errors: list[str | None] = [None] * num_rows
        for place, failure in zip(asked, failures, strict=True):
            errors[place] = failure
        if good:
            places = np.array(asked)[good]
            scores[places] = np.array(candidate.scores)[good]
            by_candidate[places] = True
        own = np.flatnonzero(~by_candidate)
        if len(own):
            rows = pending.features if len(own) == num_rows else pending.features.take(own)
            try:
                scores[own] = pending.champion.predict(rows.to_pandas())
            except (ValueError, TypeError) as error:
                nulls = [n for n in rows.column_names if rows[n].null_count]
                raise failed_to_score(route, nulls) from error
        if not np.isfinite(scores).all():
            key = pending.keys[int(np.flatnonzero(~np.isfinite(scores))[0])]
            raise ModelError(f"champion {route.champion} of {route.model!r} gave no finite score for {key!r}.", key=key)
        answers = pa.table(
            {
                "key": pa.array(pending.keys, pa.string()),
                "score": pa.array(scores),
                "version": _chosen(by_candidate, route.candidate or "", route.champion),
                "variant": pa.array(pending.assigned, pa.string()),
                "answered_by": _chosen(by_candidate, "candidate", "champion"),
            }
        )
        latency_s = time.perf_counter() - pending.started_at
        self._log.append(self._record(pending, answers, errors, latency_s))
        self._observe(pending.at, pending.features, scores.tolist())
        request_id = pending.caller.request_id
        copy = table_copy(
            request_id, pending.at, route, pending.keys, pending.assigned, pending.features, answers["score"], latency_s
        )
        return BulkAnswered(request_id, route, answers, latency_s, copy)

    def _record(
        self, pending: BulkPending, answers: pa.Table, errors: list[str | None], latency_s: float
    ) -> dict[str, Any]:
        features = pa.nulls(answers.num_rows)
        if self._features_share > 0:
            columns = [
                redacted(pending.features[n]) if n in self._hidden else pending.features[n].combine_chunks()
                for n in pending.features.column_names
            ]
            features = pa.StructArray.from_arrays(columns, names=pending.features.column_names)
        rows = pa.table(
            {
                "key": answers["key"], "score": answers["score"], "assigned": answers["variant"],
                "answered_by": answers["answered_by"], "version": answers["version"],
                "error": pa.array(errors, pa.string()), "features": features,
            }
        )
        return {
            "request_id": pending.caller.request_id,
            "at": pending.at.isoformat(),
            "epoch": pending.route.epoch,
            "rollout_id": pending.route.rollout_id,
            "overridden": pending.overridden,
            "latency_ms": latency_s * 1_000,
            "logged_timestamp": datetime.now(UTC).isoformat(),
            "trace_id": pending.caller.trace_id,
            "principal": pending.caller.grant.principal,
            "packed_rows": pack_rows(rows),
        }


def redacted(values: pa.ChunkedArray) -> pa.Array:
    """As `redact`, of a column: nulls stay nulls.

    >>> redacted(pa.chunked_array([[1, None]])).to_pylist()
    ['[redacted]', None]
    """
    return pc.if_else(values.combine_chunks().is_valid(), HIDDEN, pa.scalar(None, pa.string()))


def _chosen(by_candidate: npt.NDArray[np.bool_], candidate: str, champion: str) -> pa.Array:
    return pa.array(np.where(by_candidate, candidate, champion).tolist(), pa.string())
