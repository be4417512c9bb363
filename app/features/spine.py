"""The rows that features are joined to: whatever the caller gave, its moments and its join keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import ray

from app.errors import FeatureStoreError, SchemaMismatchError, TimestampError
from app.features.arrow_types import conform_column
from app.features.point_in_time import EVENT, floor_us
from app.features.view_scan import SpineStretch
from app.spec.features import Field

GATHERED_ROWS = 1_000_000  # of a Ray Dataset; one with more rows stays in the cluster


@dataclass(frozen=True)
class RemoteSpine:
    """A spine that stays where it is. `blocks`: references to Arrow tables, in the order of the rows."""

    blocks: tuple[Any, ...]
    column_names: list[str]
    num_rows: int


def open_spine(entity_df: Any) -> pa.Table | RemoteSpine:
    """A spine given as pandas frame, Arrow table, polars frame or Ray Dataset.

    Raises:
        FeatureStoreError: something else.
        SchemaMismatchError: a column of mixed values.
    """
    if isinstance(entity_df, pa.Table):
        return entity_df
    if isinstance(entity_df, pd.DataFrame):
        try:
            return pa.Table.from_pandas(entity_df, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SchemaMismatchError(
                f"entity_df ({len(entity_df)} rows) cannot be read: {'; '.join(map(str, error.args))}. Give each "
                "column values of one type.", rows=len(entity_df),
            ) from error
    if isinstance(entity_df, pl.DataFrame):
        return entity_df.to_arrow()
    if hasattr(entity_df, "to_arrow_refs"):
        return _of_dataset(entity_df)
    raise FeatureStoreError(
        f"entity_df is {type(entity_df).__name__}; expected a pandas or polars frame, an Arrow table or a Ray Dataset."
    )


def _of_dataset(dataset: Any) -> pa.Table | RemoteSpine:
    done = dataset.materialize()
    blocks = done.to_arrow_refs()
    num_rows = done.count()
    if num_rows <= GATHERED_ROWS:
        return one_table(ray.get(blocks))
    return RemoteSpine(tuple(blocks), list(done.schema().names), num_rows)


def one_table(blocks: Sequence[pa.Table]) -> pa.Table:
    """Blocks as one table; a column that is empty in some of them has the type of the others."""
    return pa.concat_tables([b for b in blocks if b.num_rows] or blocks[:1], promote_options="permissive")


def moments(spine: pa.Table) -> pl.Series:
    """The spine's moments in UTC, in their own unit; without a zone they are UTC.

    Raises:
        TimestampError: the column holds no timestamps.
    """
    column = spine[EVENT]
    if not pa.types.is_timestamp(column.type):
        column = conform_column(column, Field(EVENT, "timestamp"), f"entity_df ({spine.num_rows} rows)")
    # A change of zone moves no moment; it is made in Arrow, since polars knows no fixed offsets such as +05:30.
    times = pl.Series(EVENT, column.cast(pa.timestamp(column.type.unit, tz="UTC")))
    if not isinstance(times.dtype, pl.Datetime):
        raise TimestampError(f"entity_df: column {EVENT!r} is {times.dtype}; expected timestamps.")
    return times


def stretch_of(times: pl.Series) -> SpineStretch | None:
    """The first and the last moment."""
    us = floor_us(times).to_physical()
    first, last = us.min(), us.max()
    return SpineStretch(first, last) if isinstance(first, int) and isinstance(last, int) else None


def stretch_of_all(stretches: Sequence[SpineStretch | None]) -> SpineStretch | None:
    """The first and the last moment of several spines."""
    known = [s for s in stretches if s is not None]
    return SpineStretch(min(s.first_us for s in known), max(s.last_us for s in known)) if known else None


def spine_keys(
    spine: pa.Table, fields: Sequence[Field], key_columns: Sequence[str], view: str, where: str = "entity_df"
) -> pl.DataFrame:
    """A view's join keys out of a spine, in their declared types; a float column of whole numbers counts as integer.

    Args:
        spine: the rows.
        fields: the view's join keys.
        key_columns: the spine's column for each.
        view: the view's name, for messages.
        where: what the rows are, for messages.

    Raises:
        SchemaMismatchError: a key of another type.
    """
    columns = []
    for field, name in zip(fields, key_columns, strict=True):
        wanted = Field(name, field.dtype)
        place = f"{where} ({spine.num_rows} rows), join key of feature view {view!r}"
        if pa.types.is_boolean(spine[name].type) and field.dtype != "bool":
            raise SchemaMismatchError(f"{place}: column {name!r} is bool; expected {field.dtype}.", column=name)
        columns.append(pl.Series(field.name, conform_column(spine[name], wanted, place)))
    return pl.DataFrame(columns)
