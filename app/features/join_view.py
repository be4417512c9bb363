"""Joins one view to a spine. Pure.

A row's features depend on the rows of its own key alone, so both sides may be split by the key, and the spine by time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from app.features.point_in_time import AVAILABLE, CREATED, as_of_join, floor_us, picked
from app.features.replaced_rows import living_winners
from app.features.window_layout import WindowLayout
from app.features.window_rows import WindowRows, all_distinct, resolve, window_rows
from app.features.window_sums import order_free_windows
from app.features.windows import window_features
from app.spec.features import FeatureView, Field

FEW_ENTITIES = np.iinfo(np.int16).max
WINDOW_TYPES: dict[str, pl.DataType] = {"int64": pl.Int64(), "float64": pl.Float64()}


def join_view(
    view: FeatureView, features: Sequence[Field], times: pl.Series, spine_keys: pl.DataFrame, rows: pl.DataFrame,
    replaced: bool = False,
) -> pl.DataFrame:
    """The asked features of a view for each spine row, in the spine's order.

    Args:
        view: the view.
        features: which of its features.
        times: moments of the spine, UTC; a null moment has no features.
        spine_keys: the view's join keys for each spine row, in their declared types.
        rows: rows of the view's table; without `created_timestamp`, of a window view, no two are of one identity.
        replaced: whether some may be later versions of others; windows see that for themselves.
    """
    names = [f.name for f in features]
    if not view.aggregations and replaced:
        ranked, winners = living_winners(times, spine_keys, rows, view.join_keys)
        return picked(ranked, winners, times, names, view.ttl)
    if not view.aggregations:
        return as_of_join(times, spine_keys, rows, view.join_keys, names, view.ttl)
    if CREATED not in rows.columns or all_distinct(rows["row_key"]):
        return _join_windows(view, features, times, spine_keys, rows)
    changes = late_changes(rows, view.join_keys)
    if not len(changes):
        return _join_windows(view, features, times, spine_keys, resolve(rows, view.join_keys))
    # Between two changes no row is replaced by another, so one version of each counts: the newest known by then.
    us = floor_us(times).to_physical().fill_null(0).to_numpy()
    epochs = np.searchsorted(changes, us, side="right")
    parts, places = [], []
    for epoch in np.unique(epochs):
        at = np.flatnonzero(epochs == epoch)
        known = rows.filter(pl.col(AVAILABLE).dt.epoch("us") < int(changes[epoch])) if epoch < len(changes) else rows
        resolved = resolve(known, view.join_keys)
        own_keys = spine_keys[at] if spine_keys.width else spine_keys  # without columns it has no rows to pick
        parts.append(_join_windows(view, features, times[at], own_keys, resolved))
        places.append(at)
    return pl.concat(parts)[np.argsort(np.concatenate(places))] if parts else _join_windows(
        view, features, times, spine_keys, rows[:0]
    )


def late_changes(rows: pl.DataFrame, keys: Sequence[str]) -> np.ndarray:
    """Moments at which a row is replaced by a version that became available later; increasing, microseconds."""
    first = pl.col(AVAILABLE).min().over([*keys, "row_key"])
    changed = rows.filter(pl.col(AVAILABLE) > first)[AVAILABLE].dt.epoch("us")
    return changed.unique().sort().to_numpy()


def _join_windows(
    view: FeatureView, features: Sequence[Field], times: pl.Series, spine_keys: pl.DataFrame, rows: pl.DataFrame
) -> pl.DataFrame:
    """Windows over resolved rows. Questions are answered in order of entity and moment, which keeps look-ups near."""
    names = [f.name for f in features]
    keys = list(view.join_keys)
    entity_of_rows, asked = _numbered(rows.select(keys), spine_keys.select(keys), rows.height, len(times))
    aggregations = [a for a in view.aggregations if a.name in names]
    table = window_rows(rows, entity_of_rows, WindowLayout.of(aggregations))
    entity = asked.cast(pl.Int64).fill_null(-1).to_numpy()
    at = floor_us(times).to_physical().fill_null(0).to_numpy()
    order = question_order(table, entity, at)
    entity, at = entity[order], at[order]
    values = order_free_windows(aggregations, table, entity, at)
    rest = [a for a in aggregations if a.name not in values]
    if rest:
        newest = table.newest_until(entity, at)
        values |= window_features(
            rest, WindowLayout.of(rest), entity, at, lambda tile: table.tiles_and_heads(tile, entity, at, newest)
        )
    unknown = times.is_null()
    for key in keys:
        unknown = unknown | spine_keys[key].is_null()
    columns = [_nulled(pl.Series(name, _placed(values[name], order)), unknown) for name in names]
    return pl.DataFrame(columns, schema={f.name: WINDOW_TYPES[f.dtype] for f in features})


def question_order(table: WindowRows, entity: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Positions of the questions in order of entity and moment: by counting where they are in order of moment."""
    if len(entity) and entity.max() < FEW_ENTITIES and bool((at[1:] >= at[:-1]).all()):
        return np.argsort(entity.astype(np.int16), kind="stable")  # numpy sorts these by counting
    return pl.Series(table.positions(entity, at)).arg_sort().to_numpy()


def _placed(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Values back in the order of the spine."""
    placed = np.empty_like(values)
    placed[order] = values
    return placed


def _numbered(
    of_rows: pl.DataFrame, asked: pl.DataFrame, num_rows: int, num_asked: int
) -> tuple[pl.Series, pl.Series]:
    """A number for each entity asked for, on both sides, null for others; without keys all rows are of one."""
    keys = of_rows.columns
    if not keys:
        return pl.repeat(0, num_rows, dtype=pl.UInt32, eager=True), pl.repeat(0, num_asked, dtype=pl.UInt32, eager=True)
    numbered = asked.drop_nulls().unique(maintain_order=True).with_row_index("__entity")
    rows, questions = (
        side.join(numbered, on=keys, how="left", maintain_order="left")["__entity"] for side in (of_rows, asked)
    )
    return rows, questions


def _nulled(column: pl.Series, unknown: pl.Series) -> pl.Series:
    if column.dtype == pl.Float64:
        column = column.fill_nan(None)
    return pl.select(pl.when(~unknown).then(column).alias(column.name)).to_series()
