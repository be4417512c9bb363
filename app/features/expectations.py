"""Rules that rows must keep, checked in columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from app.spec.features import Expectation

REASON = "reason"


def check(table: pa.Table, expectations: Sequence[Expectation]) -> tuple[pa.Table, pa.Table]:
    """Splits rows into those that keep every expectation and those that break one.

    A null passes every rule except `not_null`; NaN is null.

    Returns:
        The rows that passed, and the others with a further column `reason` that names each broken rule.
    """
    nothing = table.slice(0, 0).append_column(REASON, pa.array([], pa.string()))
    if not expectations or table.num_rows == 0:
        return table, nothing
    frame = pl.DataFrame(table)
    reasons = [
        pl.when(broken.fill_null(False)).then(pl.lit(text))
        for expectation in expectations
        for text, broken in _rules(expectation, frame.schema[expectation.column])
    ]
    reason = frame.select(pl.concat_str(reasons, separator="; ", ignore_nulls=True)).to_series()
    failed = (reason != "").to_numpy()
    if not failed.any():
        return table, nothing
    column = pa.array(reason.to_list(), pa.string())
    return table.filter(pa.array(~failed)), table.append_column(REASON, column).filter(pa.array(failed))


def rule_texts(expectations: Sequence[Expectation]) -> list[str]:
    """What `check` says of a row that breaks them: what was declared, never a value of the row."""
    return [text for expectation in expectations for text, _ in _rules(expectation, pl.String())]


def _rules(expectation: Expectation, dtype: pl.DataType) -> list[tuple[str, pl.Expr]]:
    """Text and "is broken" of each rule the expectation sets."""
    name, column = expectation.column, pl.col(expectation.column)
    value = column.fill_nan(None) if dtype.is_float() else column
    rules: list[tuple[str, pl.Expr]] = []
    if expectation.not_null:
        rules.append((f"{name} is null", value.is_null()))
    if expectation.minimum is not None:
        rules.append((f"{name} is below {expectation.minimum:g}", value < expectation.minimum))
    if expectation.maximum is not None:
        rules.append((f"{name} is above {expectation.maximum:g}", value > expectation.maximum))
    if expectation.one_of is not None:
        known = pl.Series(list(expectation.one_of))
        rules.append((f"{name} is none of {expectation.one_of!r}", ~value.is_in(known.implode())))
    if expectation.matches is not None:
        pattern = f"^(?:{expectation.matches})$"
        rules.append((f"{name} does not match {expectation.matches!r}", ~value.str.contains(pattern)))
    return rules
