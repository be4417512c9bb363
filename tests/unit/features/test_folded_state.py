"""What is served from folded tiles has the bits that training gets from rows, however the rows came."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from app.features.online.answers import window_values
from app.features.online.base import WindowBatch
from app.features.online.folded_state import StateReader, pack_folded
from app.features.online.sqlite import SqliteOnlineStore
from app.features.window_layout import WindowLayout
from app.features.window_rows import row_columns, window_rows
from app.features.windows import window_features
from app.spec.features import Aggregation

US = timedelta(microseconds=1)
FUNCTIONS = ("sum", "count", "mean", "min", "max", "std", "last", "distinct_count")
AGGREGATIONS = (
    *(Aggregation("x", function, 40 * US, 10 * US) for function in FUNCTIONS),  # type: ignore[arg-type]
    *(Aggregation("x", function, 20 * US, 10 * US) for function in ("std", "last")),  # type: ignore[arg-type]
    Aggregation("y", "mean", 90 * US, 30 * US), Aggregation("x", "max", 90 * US, 30 * US),
    Aggregation("y", "quantile", 60 * US, 30 * US, quantile=0.5),
)
LAYOUT = WindowLayout.of(AGGREGATIONS)
VALUE = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.sampled_from([0.1, 0.2, -0.0, 1e9, 1e9 + 1]))
ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(-30, 150), VALUE, VALUE), min_size=1, max_size=25)
Row = tuple[int, int, float | None, float | None]


def frame_of(rows: list[Row]) -> pl.DataFrame:
    moments = pl.Series([r[1] for r in rows], dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "available_timestamp": moments, "event_timestamp": moments,
            "row_key": pl.Series([f"{i:03}" for i in range(len(rows))], dtype=pl.String),
            "x": pl.Series([r[2] for r in rows], dtype=pl.Float64),
            "y": pl.Series([r[3] for r in rows], dtype=pl.Float64),
        }
    )


def batch_of(rows: list[Row], places: list[int]) -> WindowBatch:
    chosen = [rows[i] for i in places]
    moments = np.array([r[1] for r in chosen], dtype=np.int64)
    values = row_columns(LAYOUT, frame_of(chosen)).words(LAYOUT)
    keys, row_keys = [f"k{r[0]}" for r in chosen], [f"{i:03}" for i in places]
    return WindowBatch("t", LAYOUT, keys, row_keys, moments, moments, moments * 0, moments * 0, values)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.lists(st.integers(-40, 300), min_size=1, max_size=5), st.data())
def test_served_values_are_the_trained_ones(rows: list[Row], moments: list[int], data: st.DataObject) -> None:
    """In whatever order and batches the rows come; for moments before, at and long after the newest row."""
    store = SqliteOnlineStore.open("sqlite:///:memory:")
    order = data.draw(st.one_of(st.just(list(range(len(rows)))), st.permutations(range(len(rows)))))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True):
        store.put([batch_of(rows, list(order[start:end]))])
    table = window_rows(frame_of(rows), pl.Series([r[0] for r in rows], dtype=pl.Int64), LAYOUT)
    entity, keys = np.array([0, 1, 2, -1]), ["k0", "k1", "k2", "nobody"]
    for at in moments:
        asked = np.full(len(entity), at)
        trained = window_features(
            AGGREGATIONS, LAYOUT, entity, asked, lambda tile, asked=asked: table.tiles_and_heads(tile, entity, asked)
        )
        (states,) = store.states([("t", keys)])
        served = window_values(store, "t", StateReader(LAYOUT, states), AGGREGATIONS, keys, at)
        for name, values in trained.items():
            assert served[name].dtype == values.dtype
            assert str(served[name].tolist()) == str(values.tolist()), name


def test_a_state_is_read_as_it_was_written() -> None:
    store = SqliteOnlineStore.open("sqlite:///:memory:")
    rows: list[Row] = [(i % 3, 7 * i, float(i), None if i % 4 else 1.0) for i in range(20)]
    store.put([batch_of(rows, list(range(20)))])
    (states,) = store.states([("t", ["k0", "k1", "k2"])])
    assert pack_folded(LAYOUT, StateReader(LAYOUT, states).whole()) == states
    assert StateReader(LAYOUT, [None, states[1]]).newest_us[1] == 7 * 19
