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

from app.features import window_moments, windows
from app.features.window_fold import segmented_accumulate
from app.features.window_layout import WindowLayout
from app.features.window_moments import Moments, both, folded_moments, running_moments
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
        np.testing.assert_allclose(values, expected, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-6)


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


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.one_of(st.none(), st.floats(-1, 1)))), st.integers(1, 9),
    st.floats(1e3, 1e15), st.integers(-6, 3),
)
def test_a_small_spread_beside_a_large_mean_is_found(rows, hop, mean, exponent) -> None:
    """As numpy's two passes find it, but for what the data's own rounding to floats allows."""
    values = [(at, None if v is None else mean + v * 10.0**exponent) for at, v in rows]
    aggregation = Aggregation("x", "std", 80 * US, hop * US)
    (found,) = ask(sorted_rows([(0, at, v) for at, v in values]), [(0, 60)], [aggregation])[aggregation.name]
    start = (60 - 80) // hop * hop
    known = [v for at, v in values if v is not None and at > start]
    if len(known) < 2:
        assert math.isnan(found)
    else:
        expected = float(np.std(np.array(known), ddof=1))
        assert found == pytest.approx(expected, rel=1e-9, abs=mean * 1e-15)


def test_three_neighbours_of_a_thousand_million() -> None:
    rows = sorted_rows([(0, i, 1e9 + i) for i in range(3)])
    for hop in (1, 2, 100):
        answers = ask(rows, [(0, 2), (0, 1)], [Aggregation("x", "std", 100 * US, hop * US)])
        assert list(answers.values()) == [[1.0, math.sqrt(0.5)]]


def test_moments_of_long_segments_are_folded_as_those_of_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain floats and arrays, bit for bit, against merging by hand; tiles alike."""
    random = np.random.default_rng(0)
    count = random.integers(0, 3, (3_000, 2)).astype(float)
    values = random.normal(size=count.shape) * 10.0 ** random.integers(-8, 8, count.shape)
    parts = (count, np.where(count > 0, values, 0.0), np.where(count > 1, np.abs(values), 0.0))
    starts = np.array([0, 1, 700, 703, 710, 711, 800, 805, 806, 900, 1_500])
    by_hand = []
    for i in range(len(values)):
        row = Moments(*(part[i] for part in parts))
        by_hand.append(row if i in starts else both(by_hand[-1], row))
    expected = Moments(*(np.array([getattr(m, name) for m in by_hand]) for name in ("count", "mean", "deviations")))
    for at_once in (1, 8, 100):
        monkeypatch.setattr(window_moments, "SEGMENTS_AT_ONCE", at_once)
        found = running_moments(Moments(*parts), expected.count, starts)
        assert (found.mean == expected.mean).all() and (found.deviations == expected.deviations).all()
    last = folded_moments(Moments(*(part[1_500:, None] for part in parts)))
    assert (last.mean[0] == expected.mean[-1]).all() and (last.deviations[0] == expected.deviations[-1]).all()


@pytest.mark.parametrize("values", [[math.inf, 1.0], [1.0, -math.inf, 2.0, 3.0], [math.inf, math.inf]])
def test_infinite_values_have_no_spread(values: list[float]) -> None:
    rows = sorted_rows([(0, i, v) for i, v in enumerate(values)])
    for hop in (1, 100):
        (found,) = ask(rows, [(0, 5)], [Aggregation("x", "std", 100 * US, hop * US)]).values()
        assert math.isnan(found[0])


def test_windows_of_one_hop_may_name_columns_in_any_order() -> None:
    """The group of the second window has the cells of the tiles in another order."""
    aggregations = [
        Aggregation("x", "count", 8 * US, 2 * US), Aggregation("y", "mean", 4 * US, 2 * US),
        Aggregation("x", "mean", 4 * US, 2 * US),
    ]
    moments = pl.Series([1, 2, 3], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    frame = pl.DataFrame(
        {
            "available_timestamp": moments, "event_timestamp": moments, "row_key": ["a", "b", "c"],
            "x": [1.0, None, 3.0], "y": [10.0, 20.0, 30.0],
        }
    )
    rows = window_rows(frame, pl.Series([0, 0, 0]), WindowLayout.of(aggregations))
    answers = ask(rows, [(0, 4)], aggregations)
    assert [answers[a.name] for a in aggregations] == [[2], [20.0], [2.0]]
