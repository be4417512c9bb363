"""The numbers an analysis judges, candidate against champion over the same rows' time. Pure.

Rows are predictions with the columns `assigned`, `answered_by`, `score`, `error` and, where the truth is known,
`label`.
`C` = rows assigned to the candidate, `P` = rows assigned to the champion.

| measure | value | rows that count |
|---|---|---|
| error_rate | share of C that the champion had to answer | C |
| missing_share | share of C for which the candidate gave no finite number | C |
| score_mean_shift | absolute difference of the mean scores of C and P, as answered | the smaller side |
| log_loss_difference | log loss of C minus log loss of P on labelled rows, as answered | the smaller side |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from app.serving.answer import NOT_FINITE
from app.spec.policies import MetricMeasure

PROBABILITY_FLOOR = 1e-7


@dataclass(frozen=True)
class Measurement:
    """One number with the rows behind it. `value` is `None` when it cannot be computed."""

    value: float | None
    num_rows: int


def measure(name: MetricMeasure, rows: pl.DataFrame) -> Measurement:
    """Computes a measure over `rows`."""
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


def _log_loss_difference(rows: pl.DataFrame) -> Measurement:
    candidate, champion = (side.drop_nulls("label") for side in _answered(rows))
    num_rows = min(candidate.height, champion.height)
    if num_rows == 0:
        return Measurement(None, 0)
    return Measurement(_log_loss(candidate) - _log_loss(champion), num_rows)


def _answered(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows by side whose side answered itself: a fallback says nothing about the candidate's scores."""
    own = rows.filter(pl.col("assigned") == pl.col("answered_by"))
    return own.filter(pl.col("assigned") == "candidate"), own.filter(pl.col("assigned") == "champion")


def _share(rows: pl.DataFrame, condition: pl.Expr) -> Measurement:
    if rows.height == 0:
        return Measurement(None, 0)
    return Measurement(rows.filter(condition).height / rows.height, rows.height)


def _log_loss(rows: pl.DataFrame) -> float:
    label = rows["label"].to_numpy().astype(np.float64)
    score = np.clip(rows["score"].to_numpy(), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return float(-np.mean(label * np.log(score) + (1 - label) * np.log1p(-score)))


_MEASURES: dict[MetricMeasure, Callable[[pl.DataFrame], Measurement]] = {
    "error_rate": _error_rate,
    "missing_share": _missing_share,
    "score_mean_shift": _score_mean_shift,
    "log_loss_difference": _log_loss_difference,
}
