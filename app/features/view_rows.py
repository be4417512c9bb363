"""From source rows to rows of a feature view: one function for backfill and for push. Pure but for the transform.

A transform gets the source's declared columns in a frame whose index is the rows' identity. It may drop rows, repeat
them and add columns; it keeps the index, or else the columns of the source's key, so that a corrected row still
replaces the one it corrects.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import polars as pl
import pyarrow as pa

from app.errors import FeatureStoreError, SchemaMismatchError
from app.features.arrow_types import arrow_schema, conform_column, from_series, require_columns, to_pandas
from app.features.keys import row_keys
from app.features.sources import available_column
from app.spec.features import FeatureView, Field, Source

TIMES = (Field("event_timestamp", "timestamp"), Field("available_timestamp", "timestamp"))
SYSTEM = (*TIMES, Field("row_key", "string"), Field("source_created_timestamp", "timestamp"))
CREATED = Field("created_timestamp", "timestamp")


def key_fields(view: FeatureView) -> tuple[Field, ...]:
    """The view's join keys with their types: as the view declares them, else its source, else text."""
    declared = {f.name: f for f in (*view.source.fields, *view.fields)}
    return tuple(declared.get(key, Field(key, "string")) for key in view.join_keys)


def stored_fields(view: FeatureView) -> tuple[Field, ...]:
    """Columns of the view's table, without `created_timestamp`."""
    keys = key_fields(view)
    own = tuple(f for f in view.fields if f.name not in view.join_keys and f.name not in RESERVED)
    return (*keys, *own, *SYSTEM)


RESERVED = frozenset(f.name for f in (*SYSTEM, CREATED))


def view_schema(view: FeatureView) -> pa.Schema:
    """Schema of the view's table."""
    return arrow_schema((*stored_fields(view), CREATED))


def source_frame(source: Source, raw: pa.Table) -> pd.DataFrame:
    """What a transform gets: the source's declared columns, with the rows' identity as index."""
    frame = to_pandas(raw.select([f.name for f in source.fields]))
    frame.index = pd.Index(raw["row_key"].to_pylist(), dtype="object")
    return frame


def view_rows(view: FeatureView, raw: pa.Table, frame: pd.DataFrame | None = None) -> pa.Table:
    """Rows of the view out of rows of its source's raw table; rows that never become available are left out.

    Args:
        view: the view.
        raw: columns of `raw_schema(view.source)`.
        frame: `source_frame(view.source, raw)` when it is at hand.

    Returns:
        Columns of `stored_fields(view)`.

    Raises:
        MissingColumnError: the transform did not return a declared column.
        SchemaMismatchError: a column of its result has another type than declared.
        FeatureStoreError: its rows cannot be told apart.
    """
    where = f"transform of feature view {view.name!r}"
    frame = source_frame(view.source, raw) if frame is None else frame
    result = frame if view.transform is None else view.transform(frame.copy(deep=False))  # copied on write
    needed = [f for f in stored_fields(view) if f not in SYSTEM]
    require_columns(result.columns, [f.name for f in needed], where)
    keys = _row_keys(view, frame, result)
    columns = {f.name: _column(result[f.name], f, where) for f in needed}
    times = zip(TIMES, (view.source.event_timestamp, available_column(view.source)), strict=True)
    for field, name in times:
        series = result[name] if name in result.columns else frame.loc[result.index, name]
        columns[field.name] = _column(series, field, where)
    columns["row_key"] = pa.array(keys, pa.string())
    columns["source_created_timestamp"] = _created(raw, keys)
    table = pa.table({f.name: columns[f.name] for f in stored_fields(view)}, schema=arrow_schema(stored_fields(view)))
    return table.filter(table["available_timestamp"].is_valid())


def _created(raw: pa.Table, keys: Sequence[str]) -> pa.Array | pa.ChunkedArray:
    """When the source row behind each resulting row was written."""
    column, of_raw = raw["created_timestamp"], raw["row_key"].to_pylist()
    if of_raw == keys:
        return column
    created = dict(zip(of_raw, column.cast(pa.int64()).to_pylist(), strict=True))
    identity = [key.rsplit("#", 1)[0] if key not in created else key for key in keys]
    return pa.array([created[i] for i in identity], pa.int64()).cast(column.type)


def _row_keys(view: FeatureView, frame: pd.DataFrame, result: pd.DataFrame) -> list[str]:
    """Identity of each resulting row; the second and further ones of a source row get `#1`, `#2`…"""
    if len(result) == 0:
        return []
    if frame.index.is_unique and result.index.equals(frame.index):
        return list(result.index)
    if result.index.dtype == frame.index.dtype and result.index.isin(frame.index).all():
        keys = pd.Series(result.index, dtype="object")
    elif all(column in result.columns for column in view.source.key):
        fields = {f.name: f for f in view.source.fields}
        table = pa.table({c: _column(result[c], fields[c], view.name) for c in view.source.key})
        keys = pd.Series(row_keys(pl.DataFrame(table), view.source.key).to_list(), dtype="object")
        result.index = pd.Index(keys)
    else:
        raise FeatureStoreError(
            f"the transform of feature view {view.name!r} returned rows that cannot be traced to its source's rows: "
            f"keep the frame's index, or return the source's key columns ({', '.join(view.source.key)}).",
            view=view.name,
        )
    if keys.is_unique:
        return [str(key) for key in keys]
    repeat = keys.groupby(keys).cumcount().to_numpy()
    return [f"{key}#{n}" if n else str(key) for key, n in zip(keys, repeat, strict=True)]


def _column(series: pd.Series, field: Field, where: str) -> pa.Array | pa.ChunkedArray:
    try:
        column = from_series(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaMismatchError(
            f"{where}: column {field.name!r} is declared {field.dtype} but holds mixed values: {error}.",
            where=where, column=field.name,
        ) from error
    return conform_column(column, field, where)
