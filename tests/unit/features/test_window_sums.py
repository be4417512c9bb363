"""Windows without tiles give the bits that tiles give, and rows are put in one order whatever way is taken."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.features import window_rows as module
from app.features.window_layout import WindowLayout
from app.features.window_rows import WindowRows, all_distinct, window_rows
from app.features.window_sums import order_free_windows
from app.features.windows import window_features
from app.spec.features import Aggregation

US = timedelta(microseconds=1)
WHOLE = st.sampled_from([-3.0, -0.0, 0.0, 2.0, 7.0, None, 2.0**30])
ANY = st.one_of(WHOLE, st.sampled_from([0.1, 0.2, math.inf, 2.0**53]))
QUESTIONS = st.lists(st.tuples(st.integers(-1, 2), st.integers(-40, 80)), max_size=15)
FUNCTIONS = ("sum", "count", "mean", "last", "max")


def rows_of(rows: list[tuple[int, int, int, float | None]], keys: list[str] | None = None) -> WindowRows:
    """Rows as (entity, available, event, value)."""
    available, event = (pl.Series([r[i] for r in rows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")) for i in (1, 2))
    frame = pl.DataFrame(
        {
            "available_timestamp": available, "event_timestamp": event,
            "row_key": pl.Series(keys or [f"{-i:03}" for i in range(len(rows))], dtype=pl.String),
            "x": pl.Series([r[3] for r in rows], dtype=pl.Float64),
        }
    )
    return window_rows(frame, pl.Series([r[0] for r in rows], dtype=pl.Int64), WindowLayout(("x",), ()))


def rows_with(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(st.tuples(st.integers(0, 2), st.integers(-30, 60), st.integers(-2, 2), values), max_size=40)


@pytest.mark.parametrize("largest", [2**62, 1], ids=["numbered", "by rank"])
@pytest.mark.parametrize("values", [WHOLE, ANY], ids=["whole", "any"])
def test_no_tile_is_needed_for_the_same_bits(values: st.SearchStrategy, largest: int) -> None:
    @settings(deadline=None)
    @given(rows_with(values), QUESTIONS, st.integers(1, 9), st.integers(1, 6))
    def check(rows, questions, hop, tiles) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "MAX_NUMBER", largest)
            table = rows_of(rows)
            entity, moments = (np.array([q[i] for q in questions], dtype=np.int64) for i in (0, 1))
            asked = [Aggregation("x", f, hop * tiles * US, hop * US) for f in FUNCTIONS]  # type: ignore[arg-type]
            found = order_free_windows(asked, table, entity, moments)
            expected = window_features(
                asked, WindowLayout.of(asked), entity, moments, lambda t: table.tiles_and_heads(t, entity, moments)
            )
        exact = all(v is None or (math.isfinite(v) and v == round(v) and abs(v) < 2**53) for *_, v in rows)
        assert {a.function for a in asked if a.name in found} >= {"count", "last", *(("sum", "mean") if exact else ())}
        assert not any(a.name in found for a in asked if a.function == "max")
        for name, values in found.items():
            assert values.dtype == expected[name].dtype
            assert values.tobytes() == expected[name].tobytes(), name

    check()


def test_sums_that_round_are_left_to_the_tiles() -> None:
    asked = [Aggregation("x", "sum", 10 * US, US)]
    nothing = np.array([0])
    assert order_free_windows(asked, rows_of([(0, 1, 1, 0.1)]), nothing, nothing) == {}
    assert order_free_windows(asked, rows_of([(0, 1, 1, 2.0**53)]), nothing, nothing) == {}


@settings(deadline=None)
@given(rows_with(st.integers(0, 5).map(float)), st.randoms(use_true_random=False))
def test_rows_are_ordered_by_entity_available_event_and_key(rows, random) -> None:
    keys = [f"{i:03}" for i in range(len(rows))]
    random.shuffle(keys)
    expected = sorted((e, a, ev, k, v) for (e, a, ev, v), k in zip(rows, keys, strict=True))
    for largest in (2**62, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "MAX_NUMBER", largest)
            table = rows_of(rows, keys)
        assert table.entity.tolist() == [e for e, *_ in expected]
        assert table.available_us.tolist() == [a for _, a, *_ in expected]
        assert table.columns.numbers["x"].tolist() == [v for *_, v in expected]


@given(st.lists(st.text(max_size=1)))
def test_texts_are_distinct_or_not(texts: list[str]) -> None:
    assert all_distinct(pl.Series(texts, dtype=pl.String)) == (len(set(texts)) == len(texts))
