"""One number of each answered row that an experiment compares. Pure.

Rows are predictions with the columns of `measures`, `key` and, where it was logged, `latency_ms`.

| built in | value of a row | not known |
|---|---|---|
| label | the truth | without a label |
| log_loss | of score and label | without a label |
| squared_error | of score and label | without a label |
| score | the answer | |
| fallback | 1 where the candidate's row was answered by the champion | |
| latency_ms | time of the request in the replica | |
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from app.errors import RolloutError
from app.foundation.import_path import resolve
from app.spec.policies import Kpi

PROBABILITY_FLOOR = 1e-7


def kpi_values(kpi: Kpi, rows: pl.DataFrame) -> pl.Series:
    """The KPI of each row, null where it is not known yet.

    Raises:
        RolloutError: the project's function gives something else than one number a row.
    """
    built_in = _BUILT_IN.get(kpi.value)
    if built_in is not None:
        return rows.select(built_in(rows).cast(pl.Float64).alias("value"))["value"]
    found = resolve(kpi.value)(rows)
    values = found if isinstance(found, pl.Series) else pl.Series("value", found)
    if values.len() != rows.height or not values.dtype.is_numeric():
        raise RolloutError(
            f"KPI {kpi.name!r}: {kpi.value} gave {values.len()} values of type {values.dtype} for {rows.height} rows; "
            "expected one number or null a row.",
            kpi=kpi.name,
        )
    return values.cast(pl.Float64)


def check_kpi(kpi: Kpi) -> None:
    """Raises: RolloutError: neither built in nor a function that can be imported."""
    if kpi.value not in _BUILT_IN and ":" not in kpi.value:
        raise RolloutError(
            f"KPI {kpi.name!r} asks for {kpi.value!r}; expected one of {', '.join(_BUILT_IN)} or an import path "
            "'module:function' of the project.",
            kpi=kpi.name,
        )


def _log_loss(rows: pl.DataFrame) -> pl.Expr:
    score = pl.col("score").clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    label = _label(rows)
    return -(label * score.log() + (1 - label) * (1 - score).log())


def _label(rows: pl.DataFrame) -> pl.Expr:
    return pl.col("label").cast(pl.Float64) if "label" in rows.columns else pl.lit(None, pl.Float64)


_BUILT_IN: dict[str, Callable[[pl.DataFrame], pl.Expr]] = {
    "label": _label,
    "log_loss": _log_loss,
    "squared_error": lambda rows: (pl.col("score") - _label(rows)) ** 2,
    "score": lambda _: pl.col("score"),
    "fallback": lambda _: pl.col("assigned") != pl.col("answered_by"),
    "latency_ms": lambda _: pl.col("latency_ms"),
}
