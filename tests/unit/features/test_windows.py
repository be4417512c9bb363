"""Windows against a reference in plain Python, and tiles kept for serving against rows."""

from __future__ import annotations

import math
import statistics
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.features import windows
from app.features.window_fold import segmented_accumulate
from app.features.window_layout import WindowLayout
from app.features.window_rows import WindowRows, resolve, window_rows
from app.features.windows import window_features
from app.spec.features import Aggregation

FUNCTIONS = ("sum", "count", "mean", "min", "max", "std", "last", "distinct_count")
US = timedelta(microseconds=1)
VALUE = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.sampled_from([0.1, 0.2, 0.3]))
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(-30, 60), VALUE), max_size=40)
QUESTIONS = st.lists(st.tuples(st.integers(-1, 2), st.integers(-40, 80)), max_size=15)


def sorted_rows(rows: list[tuple[int, int, float | None]]) -> WindowRows:
    moments = pl.Series([r[1] for r in rows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {
            "available_timestamp": moments, "event_timestamp": moments,
            "row_key": pl.Series([f"{i:03}" for i in range(len(rows))], dtype=pl.String),
            "x": pl.Series([r[2] for r in rows], dtype=pl.Float64),
        }
    )
    return window_rows(frame, pl.Series([r[0] for r in rows], dtype=pl.Int64), WindowLayout(("x",), (), ("x",)))


def ask(rows: WindowRows, questions: list[tuple[int, int]], aggregations: list[Aggregation]) -> dict[str, list[float]]:
    entity = np.array([q[0] for q in questions], dtype=np.int64)
    moments = np.array([q[1] for q in questions], dtype=np.int64)
    answers = window_features(
        aggregations, WindowLayout.of(aggregations), entity, moments,
        lambda tile: rows.tiles_and_heads(tile, entity, moments),
    )
    return {name: values.tolist() for name, values in answers.items()}


def reference(rows, entity: int, t: int, window: int, hop: int, function: str) -> float:
    start = (t - window) // hop * hop
    members = sorted(
        (at, i, v) for i, (e, at, v) in enumerate(rows) if e == entity and start < at <= t and v is not None
    )
    values = [v for _, _, v in members]
    if function == "count":
        return len(values)
    if function == "distinct_count":
        return len(set(values))
    if not values or (function == "std" and len(values) < 2):
        return math.nan
    return {
        "sum": math.fsum, "mean": statistics.fmean, "min": min, "max": max, "std": statistics.stdev,
        "last": lambda v: v[-1],
    }[function](values)


@settings(max_examples=200, deadline=None)
@given(ROWS, QUESTIONS, st.integers(1, 9), st.integers(1, 6))
def test_equals_reference(rows, questions, hop, tiles) -> None:
    window = hop * tiles
    aggregations = [Aggregation("x", f, window * US, hop * US) for f in FUNCTIONS]  # type: ignore[arg-type]
    found = ask(sorted_rows(rows), questions, aggregations)
    for aggregation in aggregations:
        values = found[aggregation.name]
        expected = [reference(rows, e, t, window, hop, aggregation.function) for e, t in questions]
        exact = aggregation.function in ("count", "distinct_count", "min", "max", "last")
        absolute = 2e-2 if aggregation.function == "std" else 1e-6  # std from squares of values up to 1e6
        np.testing.assert_allclose(
            values, expected, rtol=0 if exact else 1e-6, atol=0 if exact else absolute
        )


@settings(max_examples=100, deadline=None)
@given(ROWS, QUESTIONS, st.randoms())
def test_answers_do_not_depend_on_company_or_order(rows, questions, random) -> None:
    """Bit for bit: one question alone, rows shuffled, rows that come later absent."""
    functions = ("sum", "std", "mean", "distinct_count")
    aggregations = [Aggregation("x", f, 20 * US, 5 * US) for f in functions]  # type: ignore[arg-type]
    aggregations.append(Aggregation("x", "quantile", 20 * US, 5 * US, quantile=0.9))
    for aggregation in aggregations:
        together = ask(sorted_rows(rows), questions, aggregations)[aggregation.name]
        for (entity, t), value in zip(questions, together, strict=True):
            known = [r for r in rows if r[0] == entity and r[1] <= t]
            alone = ask(sorted_rows(known), [(entity, t)], [aggregation])[aggregation.name][0]
            assert alone == value or (math.isnan(alone) and math.isnan(value))


@given(ROWS, QUESTIONS, st.integers(1, 9), st.integers(1, 6), st.sampled_from([0.0, 0.25, 0.5, 0.95, 1.0]))
def test_quantiles_are_within_their_error(rows, questions, hop, tiles, quantile) -> None:
    window = hop * tiles
    (found,) = ask(
        sorted_rows(rows), questions, [Aggregation("x", "quantile", window * US, hop * US, quantile=quantile)]
    ).values()
    for (entity, t), value in zip(questions, found, strict=True):
        start = (t - window) // hop * hop
        members = sorted(v for e, at, v in rows if e == entity and start < at <= t and v is not None)
        if members:
            true = members[math.floor(quantile * (len(members) - 1))]
            assert abs(value - true) <= abs(true) * 0.0078 + 1e-300
        else:
            assert math.isnan(value)


@pytest.mark.parametrize(("name", "value"), [("FEW_QUESTIONS", 0), ("MAX_CELLS", 1)])
def test_bounds_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    random = np.random.default_rng(0)
    times = random.integers(0, 40, (300, 2)).tolist()
    rows = [(entity, t, float(value)) for (entity, t), value in zip(times, random.normal(size=300), strict=True)]
    questions = [(entity - 1, t) for entity, t in random.integers(0, 60, (200, 2)).tolist()]
    aggregations = [Aggregation("x", f, 20 * US, 5 * US) for f in FUNCTIONS]  # type: ignore[arg-type]
    expected = ask(sorted_rows(rows), questions, aggregations)
    monkeypatch.setattr(windows, name, value)
    assert str(ask(sorted_rows(rows), questions, aggregations)) == str(expected)


def test_long_segments_fold_strictly_from_left_to_right() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=5_000) * 10.0 ** random.integers(-8, 8, 5_000)
    starts = np.array([0, 1, 700, 703, 710, 711, 800, 805, 806, 900, 4_000])
    result = segmented_accumulate(np.add, values, starts)
    for start, end in zip(starts, [*starts[1:], len(values)], strict=True):
        total = 0.0
        for i in range(start, end):
            total = values[i] if i == start else total + values[i]
            assert result[i] == total


def test_correction_replaces_the_row_it_corrects() -> None:
    moment = pl.Series([1, 1, 2]).cast(pl.Datetime("us", "UTC"))
    rows = pl.DataFrame(
        {
            "available_timestamp": moment, "event_timestamp": moment, "row_key": ["a", "b", "a"],
            "created_timestamp": pl.Series([5, 5, 6]).cast(pl.Datetime("us", "UTC")), "x": [1.0, 2.0, 10.0],
        }
    )
    assert sorted(resolve(rows, [])["x"].to_list()) == [2.0, 10.0]


def test_constant_values_have_no_spread() -> None:
    rows = sorted_rows([(0, i, 1234.1) for i in range(50)])
    answers = ask(rows, [(0, 50)], [Aggregation("x", "std", 100 * US, 10 * US)])
    assert list(answers.values()) == [[0.0]]
