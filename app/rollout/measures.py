"""The numbers an analysis judges, candidate against champion over the same rows' time. Pure.

Rows are predictions with the columns `request_id`, `assigned`, `answered_by`, `score`, `error`, `latency_ms` and,
where the truth is known, `label`.
`C` = rows assigned to the candidate, `P` = rows assigned to the champion.

| measure | value | rows that count |
|---|---|---|
| error_rate | share of C that the champion had to answer | C |
| missing_share | share of C for which the candidate gave no finite number | C |
| latency_p95_ms | 95th percentile of the time of requests with rows of C | those requests |
| latency_p95_ratio | that, divided by the same of requests without rows of C | the smaller side's requests |
| score_mean_shift | absolute difference of the mean scores of C and P, as answered | the smaller side |
| score_distance | largest difference of the scores' cumulative shares (Kolmogorov-Smirnov) | the smaller side |
| log_loss_difference | log loss of C minus log loss of P on labelled rows, as answered | the smaller side |
| squared_error_difference | mean squared error of C minus that of P on labelled rows, as answered | the smaller side |
| kpi_difference | mean KPI of C minus that of P where known, by assignment | the smaller side |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from app.rollout.kpis import kpi_values
from app.serving.answer import NOT_FINITE
from app.spec.policies import Kpi, MetricMeasure


@dataclass(frozen=True)
class Measurement:
    """One number with the rows behind it. `value` is `None` when it cannot be computed."""

    value: float | None
    num_rows: int


def measure(name: MetricMeasure, rows: pl.DataFrame, kpi: Kpi | None = None) -> Measurement:
    """Computes a measure over `rows`; `kpi` is that of `kpi_difference`."""
    if name == "kpi_difference":
        return _kpi_difference(rows, kpi)
    return _MEASURES[name](rows)


def _error_rate(rows: pl.DataFrame) -> Measurement:
    assigned = rows.filter(pl.col("assigned") == "candidate")
    return _share(assigned, pl.col("answered_by") != "candidate")


def _missing_share(rows: pl.DataFrame) -> Measurement:
    assigned = rows.filter(pl.col("assigned") == "candidate")
    return _share(assigned, pl.col("error").fill_null("") == NOT_FINITE)


def _score_mean_shift(rows: pl.DataFrame) -> Measurement:
    candidate, champion = _answered(rows)
    num_rows = min(candidate.height, champion.height)
    if num_rows == 0:
        return Measurement(None, 0)
    shift = abs(float(candidate["score"].to_numpy().mean()) - float(champion["score"].to_numpy().mean()))
    return Measurement(shift, num_rows)


def _score_distance(rows: pl.DataFrame) -> Measurement:
    candidate, champion = (np.sort(side["score"].to_numpy()) for side in _answered(rows))
    num_rows = min(len(candidate), len(champion))
    if num_rows == 0:
        return Measurement(None, 0)
    everywhere = np.concatenate([candidate, champion])
    shares = [np.searchsorted(side, everywhere, side="right") / len(side) for side in (candidate, champion)]
    return Measurement(float(np.abs(shares[0] - shares[1]).max()), num_rows)


def _latency_p95_ms(rows: pl.DataFrame) -> Measurement:
    candidate, _ = _latencies(rows)
    return Measurement(None, 0) if len(candidate) == 0 else Measurement(_p95(candidate), len(candidate))


def _latency_p95_ratio(rows: pl.DataFrame) -> Measurement:
    candidate, champion = _latencies(rows)
    num_requests = min(len(candidate), len(champion))
    if num_requests == 0:
        return Measurement(None, 0)
    return Measurement(_p95(candidate) / _p95(champion), num_requests)


def _latencies(rows: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Time of each request, in milliseconds, with and without rows of the candidate."""
    requests = rows.group_by("request_id").agg(
        pl.col("latency_ms").first(), (pl.col("assigned") == "candidate").any().alias("asked")
    )
    asked, not_asked = (requests.filter(keep)["latency_ms"].to_numpy() for keep in (pl.col("asked"), ~pl.col("asked")))
    return asked, not_asked


def _p95(values: np.ndarray) -> float:
    return float(np.percentile(values, 95))


def _kpi_difference(rows: pl.DataFrame, kpi: Kpi | None) -> Measurement:
    assert kpi is not None, "check_policy refuses the measure without a KPI"
    known = rows.with_columns(kpi_values(kpi, rows).alias("value")).drop_nulls("value")
    candidate, champion = (
        known.filter(pl.col("assigned") == side)["value"].to_numpy() for side in ("candidate", "champion")
    )
    num_rows = min(len(candidate), len(champion))
    if num_rows == 0:
        return Measurement(None, 0)
    return Measurement(float(candidate.mean() - champion.mean()), num_rows)


def _log_loss_difference(rows: pl.DataFrame) -> Measurement:
    return _loss_difference(rows, Kpi("log loss", "log_loss"))


def _squared_error_difference(rows: pl.DataFrame) -> Measurement:
    return _loss_difference(rows, Kpi("squared error", "squared_error"))


def _loss_difference(rows: pl.DataFrame, loss: Kpi) -> Measurement:
    candidate, champion = (kpi_values(loss, side).drop_nulls().to_numpy() for side in _answered(rows))
    num_rows = min(len(candidate), len(champion))
    if num_rows == 0:
        return Measurement(None, 0)
    return Measurement(float(candidate.mean() - champion.mean()), num_rows)


def _answered(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows by side whose side answered itself: a fallback says nothing about the candidate's scores."""
    own = rows.filter(pl.col("assigned") == pl.col("answered_by"))
    return own.filter(pl.col("assigned") == "candidate"), own.filter(pl.col("assigned") == "champion")


def _share(rows: pl.DataFrame, condition: pl.Expr) -> Measurement:
    if rows.height == 0:
        return Measurement(None, 0)
    return Measurement(rows.filter(condition).height / rows.height, rows.height)


_MEASURES: dict[MetricMeasure, Callable[[pl.DataFrame], Measurement]] = {
    "error_rate": _error_rate,
    "missing_share": _missing_share,
    "latency_p95_ms": _latency_p95_ms,
    "latency_p95_ratio": _latency_p95_ratio,
    "score_mean_shift": _score_mean_shift,
    "score_distance": _score_distance,
    "log_loss_difference": _log_loss_difference,
    "squared_error_difference": _squared_error_difference,
}
