"""Joins one view to a spine, in one piece or in buckets of the key: the result is the same. Pure.

A row's features depend on the rows of its own key alone, so both sides may be split by a hash of the key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from app.errors import SchemaMismatchError
from app.features.arrow_types import ARROW_TYPES
from app.features.point_in_time import as_of_join, floor_us
from app.features.view_rows import key_fields
from app.features.window_layout import WindowLayout
from app.features.window_rows import resolve, window_rows
from app.features.windows import window_features
from app.spec.features import FeatureView, Field

POLARS_TYPES: dict[str, pl.DataType] = {
    "int64": pl.Int64(), "float64": pl.Float64(), "string": pl.String(), "bool": pl.Boolean(),
    "timestamp": pl.Datetime("us", "UTC"), "date": pl.Date(), "uuid": pl.String(),
}


def join_view(
    view: FeatureView, features: Sequence[Field], times: pl.Series, spine_keys: pl.DataFrame, rows: pl.DataFrame
) -> pl.DataFrame:
    """The asked features of a view for each spine row, in the spine's order.

    Args:
        view: the view.
        features: which of its features.
        times: moments of the spine, UTC; a null moment has no features.
        spine_keys: the view's join keys for each spine row, in their declared types.
        rows: rows of the view's table.
    """
    names = [f.name for f in features]
    if not view.aggregations:
        return as_of_join(times, spine_keys, rows, view.join_keys, names, view.ttl)
    keys = list(view.join_keys)
    resolved = resolve(rows)
    numbered = resolved.select(keys).drop_nulls().unique(maintain_order=True).with_row_index("__entity")
    entity_of_rows = resolved.select(keys).join(numbered, on=keys, how="left", maintain_order="left")["__entity"]
    asked = spine_keys.select(keys).join(numbered, on=keys, how="left", maintain_order="left")["__entity"]
    aggregations = [a for a in view.aggregations if a.name in names]
    layout = WindowLayout.of(aggregations)
    table = window_rows(resolved, entity_of_rows, layout)
    moments = floor_us(times).to_physical()
    entity = asked.cast(pl.Int64).fill_null(-1).to_numpy()
    at = moments.fill_null(0).to_numpy()
    newest = table.newest_until(entity, at)
    values = window_features(
        aggregations, layout, entity, at, lambda tile: table.tiles_and_heads(tile, entity, at, newest)
    )
    unknown = spine_keys.select(pl.any_horizontal(pl.col(keys).is_null())).to_series() | times.is_null()
    columns = [_nulled(pl.Series(name, values[name]), unknown) for name in names]
    return pl.DataFrame(columns, schema={f.name: POLARS_TYPES[f.dtype] for f in features})


def _nulled(column: pl.Series, unknown: pl.Series) -> pl.Series:
    if column.dtype == pl.Float64:
        column = column.fill_nan(None)
    return pl.select(pl.when(~unknown).then(column).alias(column.name)).to_series()


Bucket = tuple[pl.Series, pl.DataFrame, pl.DataFrame]


def join_in_buckets(
    view: FeatureView, times: pl.Series, spine_keys: pl.DataFrame, rows: pl.DataFrame, num_buckets: int,
    run: Callable[[list[Bucket]], list[pl.DataFrame]],
) -> pl.DataFrame:
    """Splits both sides by a hash of the key, has `run` join each bucket, and restores the spine's order."""
    keys = list(view.join_keys)
    of_spine = _buckets(spine_keys, keys, num_buckets)
    of_rows = _buckets(rows, keys, num_buckets)
    positions = [np.flatnonzero(of_spine == b) for b in range(num_buckets)]
    buckets = [(times[p], spine_keys[p], rows.filter(pl.Series(of_rows == b))) for b, p in enumerate(positions)]
    order = np.argsort(np.concatenate(positions), kind="stable")
    return pl.concat(run(buckets))[order]


def _buckets(frame: pl.DataFrame, keys: Sequence[str], num_buckets: int) -> np.ndarray:
    return (frame.select(keys).hash_rows(seed=0) % num_buckets).to_numpy()


def spine_keys(
    spine: pa.Table, view: FeatureView, key_columns: Sequence[str], where: str = "entity_df"
) -> pl.DataFrame:
    """The view's join keys out of a spine, in their declared types; a float column of whole numbers counts as integer.

    Raises:
        SchemaMismatchError: a key of another type.
    """
    columns = {}
    for field, name in zip(key_fields(view), key_columns, strict=True):
        column = pl.Series(field.name, spine[name])
        target = POLARS_TYPES[field.dtype]
        if column.dtype.is_float():
            column = column.fill_nan(None)
        if not _fits(column, target):
            raise SchemaMismatchError(
                f"{where}: join key {name!r} of feature view {view.name!r} is {column.dtype}; expected "
                f"{field.dtype} ({ARROW_TYPES[field.dtype]}).", column=name, view=view.name,
            )
        columns[field.name] = column.cast(target)
    return pl.DataFrame(columns)


def _fits(column: pl.Series, target: pl.DataType) -> bool:
    """Whether every value has the same meaning in the target type."""
    if column.dtype == pl.Null or column.len() == column.null_count():
        return True
    if target.is_numeric():
        whole = not (column.dtype.is_float() and target.is_integer()) or bool((column == column.round()).all())
        return column.dtype.is_numeric() and whole
    if target == pl.String:
        return column.dtype in (pl.String, pl.Categorical, pl.Enum)
    return column.dtype.base_type() == target.base_type()
