"""The numbers an analysis judges of a candidate that was shown copies of the champion's rows. Pure.

Both sides scored the same rows, so that differences are paired. Rows have the columns `request_id`, `score` (the
champion's, as answered), `mirror_score`, `mirror_error` (why there is none), `latency_ms` and `mirror_latency_ms` of
the request on either side and, where the truth is known, `label`.

| measure | value | rows that count |
|---|---|---|
| mirror_error_rate | share of rows for which the candidate gave no finite score in time | all |
| mirror_score_difference | mean absolute difference of the two scores | scored by both |
| mirror_latency_ratio | the candidate's 95th percentile of time, divided by the champion's | requests scored by both |
| mirror_log_loss_difference | log loss of the candidate minus that of the champion | scored by both and labelled |
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from app.rollout.kpis import kpi_values
from app.rollout.measures import Measurement
from app.spec.policies import Kpi, MetricMeasure

LOG_LOSS = Kpi("log loss", "log_loss")


def measure_mirrored(name: MetricMeasure, rows: pl.DataFrame) -> Measurement:
    """Computes a measure over mirrored rows."""
    return Measurement(None, 0) if rows.is_empty() else _MEASURES[name](rows)


def _error_rate(rows: pl.DataFrame) -> Measurement:
    return Measurement(rows.drop_nulls("mirror_error").height / rows.height, rows.height)


def _score_difference(rows: pl.DataFrame) -> Measurement:
    both = _scored(rows)
    if both.is_empty():
        return Measurement(None, 0)
    return Measurement(float(np.abs(both["mirror_score"].to_numpy() - both["score"].to_numpy()).mean()), both.height)


def _latency_ratio(rows: pl.DataFrame) -> Measurement:
    requests = _scored(rows).group_by("request_id").agg(pl.col("latency_ms", "mirror_latency_ms").first())
    if requests.is_empty():
        return Measurement(None, 0)
    candidate, champion = (
        float(np.percentile(requests[name].to_numpy(), 95)) for name in ("mirror_latency_ms", "latency_ms")
    )
    return Measurement(candidate / champion, requests.height)


def _log_loss_difference(rows: pl.DataFrame) -> Measurement:
    both = _scored(rows)
    losses = [
        kpi_values(LOG_LOSS, both.with_columns(score=pl.col(name))).drop_nulls().to_numpy()
        for name in ("mirror_score", "score")
    ]
    if len(losses[0]) == 0:
        return Measurement(None, 0)
    return Measurement(float((losses[0] - losses[1]).mean()), len(losses[0]))


def _scored(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("mirror_error").is_null())


_MEASURES: dict[str, Callable[[pl.DataFrame], Measurement]] = {
    "mirror_error_rate": _error_rate,
    "mirror_score_difference": _score_difference,
    "mirror_latency_ratio": _latency_ratio,
    "mirror_log_loss_difference": _log_loss_difference,
}
MIRROR_MEASURES = frozenset(_MEASURES)
