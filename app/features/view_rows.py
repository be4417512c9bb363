"""From source rows to rows of a feature view: one function for backfill and for push. Pure but for the transform.

A transform gets the source's declared columns in a frame whose index is the rows' identity. It may drop rows, repeat
them and add columns; it keeps the index, or else the columns of the source's key, so that a corrected row still
replaces the one it corrects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
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
CREATED_FIELD = Field("created_timestamp", "timestamp")


def key_fields(view: FeatureView) -> tuple[Field, ...]:
    """The view's join keys with their types: as the view declares them, else its source, else text."""
    declared = {f.name: f for f in (*view.source.fields, *view.fields)}
    return tuple(declared.get(key, Field(key, "string")) for key in view.join_keys)


def stored_fields(view: FeatureView) -> tuple[Field, ...]:
    """Columns of the view's table, without `created_timestamp`."""
    keys = key_fields(view)
    own = tuple(f for f in view.fields if f.name not in view.join_keys and f.name not in RESERVED)
    return (*keys, *own, *SYSTEM)


RESERVED = frozenset(f.name for f in (*SYSTEM, CREATED_FIELD))


def view_schema(view: FeatureView) -> pa.Schema:
    """Schema of the view's table."""
    return arrow_schema((*stored_fields(view), CREATED_FIELD))


def source_frame(source: Source, raw: pa.Table) -> pd.DataFrame:
    """What a transform gets: the source's declared columns, with the rows' identity as index."""
    frame = to_pandas(raw.select([f.name for f in source.fields]))
    frame.index = pd.Index(raw["row_key"].to_pandas())
    return frame


def view_rows(
    view: FeatureView, raw: pa.Table, frame: pd.DataFrame | None = None, distinct: bool = False
) -> pa.Table:
    """Rows of the view out of rows of its source's raw table; rows that never become available are left out.

    Args:
        view: the view.
        raw: columns of `raw_schema(view.source)`.
        frame: `source_frame(view.source, raw)` when it is at hand.
        distinct: no two raw rows have one identity; then nobody has to look.

    Returns:
        Columns of `stored_fields(view)`.

    Raises:
        MissingColumnError: the transform did not return a declared column.
        SchemaMismatchError: a column of its result has another type than declared.
        FeatureStoreError: it raised, returned no frame, or its rows cannot be told apart.
    """
    where = f"transform of feature view {view.name!r}"
    frame = source_frame(view.source, raw) if frame is None else frame
    result = frame if view.transform is None else _transformed(view, frame)
    needed = [f for f in stored_fields(view) if f not in SYSTEM]
    require_columns(result.columns, [f.name for f in needed], where)
    positions = _positions(view, frame, result)
    columns = {f.name: _column(result[f.name], f, where) for f in needed}
    times = zip(TIMES, (view.source.event_timestamp, available_column(view.source)), strict=True)
    for field, name in times:
        if name in result.columns:
            columns[field.name] = _column(result[name], field, where)
        else:
            columns[field.name] = _taken(raw[name], positions)
    columns["row_key"] = raw["row_key"] if distinct and positions is None else _numbered(raw["row_key"], positions)
    columns["source_created_timestamp"] = _taken(raw["created_timestamp"], positions)
    table = pa.table({f.name: columns[f.name] for f in stored_fields(view)}, schema=arrow_schema(stored_fields(view)))
    available = table["available_timestamp"]
    return table.filter(available.is_valid()) if available.null_count else table


def _transformed(view: FeatureView, frame: pd.DataFrame) -> pd.DataFrame:
    """What the transform returns; an error of its own is named with the rows it was given."""
    where = f"the transform of feature view {view.name!r}"
    assert view.transform is not None
    try:
        result = view.transform(frame.copy(deep=False))  # copied on write
    except Exception as error:
        personal = any(f.pii for f in (*view.source.fields, *view.fields))  # then its text may hold a value
        said = "" if personal else f": {error}"
        failure = FeatureStoreError(
            f"{where} raised {type(error).__name__}{said}. It was given {len(frame)} rows with the columns "
            f"{', '.join(map(str, frame.columns))}; the first has the key {_first(view, frame)}. Nothing was written.",
            view=view.name, rows=len(frame),
        )
        if personal:
            raise failure from None
        raise failure from error
    if not isinstance(result, pd.DataFrame):
        raise FeatureStoreError(
            f"{where} returned {type(result).__name__} for {len(frame)} rows; expected a pandas DataFrame.",
            view=view.name, rows=len(frame),
        )
    return result


def _first(view: FeatureView, frame: pd.DataFrame) -> str:
    """Identity of the first row for a message; not shown when it is personal."""
    if _personal_key(view):
        return "(personal)"
    return repr(frame.index[0]) if len(frame) else "(no rows)"


def _personal_key(view: FeatureView) -> bool:
    return any(f.pii for f in view.source.fields if f.name in view.source.key)


def _positions(view: FeatureView, frame: pd.DataFrame, result: pd.DataFrame) -> np.ndarray | None:
    """Position of the source row of each resulting row; `None` when they are the same rows in the same order.

    Of several source rows of one identity the last counts.
    """
    if result.index is frame.index or (len(result) == len(frame) and result.index.equals(frame.index)):
        return None
    positions = _found(frame.index, result.index)
    if (positions < 0).any() and all(column in result.columns for column in view.source.key):
        fields = {f.name: f for f in view.source.fields}
        table = pa.table({c: _column(result[c], fields[c], view.name) for c in view.source.key})
        positions = _found(frame.index, row_keys(pl.DataFrame(table), view.source.key).to_list())
    lost = np.flatnonzero(positions < 0)
    if len(lost):
        example = "(personal)" if _personal_key(view) else repr(result.index[lost[0]])
        raise FeatureStoreError(
            f"the transform of feature view {view.name!r} returned {len(result)} rows for {len(frame)}, of which "
            f"{len(lost)} cannot be traced to a row of its source, e.g. the one with the index "
            f"{example}: keep the frame's index, or return the source's key columns "
            f"({', '.join(view.source.key)}).",
            view=view.name, rows=len(lost),
        )
    return positions


def _found(index: pd.Index, wanted: Sequence[Any] | pd.Index) -> np.ndarray:
    """Last position of each wanted value in an index of texts, -1 where it is not."""
    if isinstance(wanted, pd.Index) and not pd.api.types.is_string_dtype(wanted.dtype):
        return np.full(len(wanted), -1)
    known = pl.DataFrame({"key": pl.Series(index.to_list(), dtype=pl.String)}).with_row_index("at")
    asked = pl.DataFrame({"key": pl.Series(list(wanted), dtype=pl.String, strict=False)})
    last = known.unique("key", keep="last")
    return asked.join(last, on="key", how="left", maintain_order="left")["at"].cast(pl.Int64).fill_null(-1).to_numpy()


def _taken(column: pa.ChunkedArray, positions: np.ndarray | None) -> pa.ChunkedArray:
    return column if positions is None else column.take(pa.array(positions))


def _numbered(keys: pa.ChunkedArray, positions: np.ndarray | None) -> pa.ChunkedArray | pa.Array:
    """Identity of each resulting row; the second and further ones of a source row get `#1`, `#2`…"""
    taken = pl.Series("key", _taken(keys, positions))
    if not taken.is_duplicated().any():
        return _taken(keys, positions)
    repeat = pl.int_range(pl.len()).over("key")
    numbered = pl.when(repeat > 0).then(pl.format("{}#{}", "key", repeat)).otherwise("key").alias("key")
    return taken.to_frame().select(numbered)["key"].to_arrow().cast(pa.string())


def _column(series: pd.Series, field: Field, where: str) -> pa.Array | pa.ChunkedArray:
    try:
        column = from_series(series)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaMismatchError(
            f"{where}: column {field.name!r} is declared {field.dtype} but holds mixed values"
            f"{'' if field.pii else f': {error}'}.", where=where, column=field.name,
        ) from (None if field.pii else error)
    return conform_column(column, field, where)
