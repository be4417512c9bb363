"""Rows that arrive one by one, made ready for the online store and the view's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from app.clock import as_utc
from app.features.arrow_types import TIMESTAMP, conform, rows_to_table
from app.features.expectations import REASON, check
from app.features.keys import entity_key
from app.features.online import Batch, LatestBatch, LatestRow, WindowBatch
from app.features.online.base import TOMBSTONE_US
from app.features.point_in_time import AVAILABLE, DIED, EVENT, TIE_BREAKERS
from app.features.raw_tables import CREATED, raw_rows, row_expectations
from app.features.replaced_rows import counting_versions
from app.features.sketches import distinct_codes
from app.features.view_rows import key_fields, view_rows
from app.features.view_tables import tombstones
from app.features.window_layout import WindowLayout
from app.features.window_rows import RowColumns
from app.spec.features import FeatureView, Field, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONLINE_UNITS: dict[str, Literal["us", "d"]] = {"timestamp": "us", "date": "d"}  # since the epoch, as whole numbers
Rows = Sequence[dict[str, Any]] | pd.DataFrame


@dataclass(frozen=True)
class PushResult:
    """How many rows were taken, and why the others were refused."""

    accepted: int
    refused: tuple[str, ...] = ()

    def with_refused(self, reasons: Sequence[str]) -> PushResult:
        """The result with rows that a view refused; the source's row itself stays accepted."""
        return replace(self, refused=(*self.refused, *reasons))


def micros_of(moment: datetime) -> int:
    """Microseconds since the epoch; a moment without a zone is UTC."""
    return (as_utc(moment) - EPOCH) // timedelta(microseconds=1)


def checked(source: Source, rows: Rows, created: datetime) -> tuple[pa.Table, pa.Table, PushResult]:
    """Rows as the source declares them, with identity and created time; those that break an expectation apart.

    Of a row that is sent more than once the last counts, as if they had come one after the other.

    Returns:
        Rows of `raw_schema(source)`, refused rows with a column `reason`, and the count of both.

    Raises:
        DataError: a column is missing or of another type; nothing is taken.
    """
    where = f"rows pushed to source {source.name!r}"
    if isinstance(rows, pd.DataFrame):
        table = conform(pa.Table.from_pandas(rows, preserve_index=False), source.fields, where)
    else:
        table = rows_to_table(rows, source.fields, where)
    passed, failed = check(table, row_expectations(source))
    result = PushResult(passed.num_rows, tuple(failed[REASON].to_pylist()))
    return _last_of_each(raw_rows(passed, source, created)), failed, result


def _last_of_each(raw: pa.Table) -> pa.Table:
    """The last row of each row key, in the order of the rows."""
    last = {key: place for place, key in enumerate(raw["row_key"].to_pylist())}
    return raw if len(last) == raw.num_rows else raw.take(sorted(last.values()))


def stamped_view_rows(view: FeatureView, raw: pa.Table, frame: pd.DataFrame, created: datetime) -> pa.Table:
    """Rows of the view's table out of raw rows; nobody looks up whether a row that is dropped was there before."""
    rows = view_rows(view, raw, frame)
    rows = pa.concat_tables([rows, tombstones(view, raw, rows)])
    return rows.append_column(CREATED, pa.repeat(pa.scalar(created, TIMESTAMP), rows.num_rows))


def online_batch(table: str, view: FeatureView, rows: pa.Table) -> Batch:
    """Rows of the view's table as the online store takes them; rows without a whole key are nobody's."""
    parts = [_key_parts(rows[f.name], f) for f in key_fields(view)]
    keys = [entity_key(part) for part in zip(*parts, strict=True)] if parts else [entity_key(())] * rows.num_rows
    if None in keys:
        rows = rows.filter(pa.array([key is not None for key in keys]))
    key = [key for key in keys if key is not None]
    event, available, created, source_created = (
        rows[c].cast(pa.int64()).fill_null(TOMBSTONE_US).to_numpy()
        for c in (EVENT, AVAILABLE, CREATED, "source_created_timestamp")
    )
    row_key = rows["row_key"].to_pylist()
    if view.aggregations:
        layout = WindowLayout.of(view.aggregations)
        hashes = {name: distinct_codes(pl.Series(name, rows[name])) for name in layout.hashed}
        read = RowColumns({name: _floats(rows[name]) for name in layout.columns}, hashes)
        own = [f"{k}\n{row}" for k, row in zip(key, row_key, strict=True)]  # a row is one of its entity's, as offline
        return WindowBatch(
            table, layout, key, own, event, available, created, source_created, read.words(layout)
        )
    columns = [_json_values(rows[f.name], f) for f in view.fields]
    texts = map(json.dumps, zip(*columns, strict=True))
    times = (moments.tolist() for moments in (event, available, created))
    return LatestBatch(table, list(map(LatestRow, key, *times, row_key, texts, source_created.tolist())))


def _key_parts(column: pa.ChunkedArray, field: Field) -> list[str | int | None]:
    """A key column as `entity_key` takes it."""
    if field.dtype == "timestamp":
        column = column.cast(pa.int64())
    elif field.dtype in ("bool", "date"):
        column = column.cast(pa.string())
    elif field.dtype == "float64":
        return [None if v is None or v != v else str(v + 0.0) for v in column.to_pylist()]
    parts: list[str | int | None] = column.to_pylist()
    return parts


def _json_values(column: pa.ChunkedArray, field: Field) -> list[Any]:
    if field.dtype in ONLINE_UNITS:
        column = column.cast(pa.int64() if field.dtype == "timestamp" else pa.int32())
    values: list[Any] = column.to_pylist()
    return values


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """`float_values` of an Arrow column."""
    values: np.ndarray = column.cast(pa.float64()).fill_null(float("nan")).to_numpy()
    return values


def newest_for_online(view: FeatureView, rows: pl.DataFrame, until: datetime) -> pl.DataFrame:
    """Of all rows of a view's table, those the online store needs to answer from `until` on."""
    known = rows.filter(pl.col(AVAILABLE) <= until)
    keys = [f.name for f in key_fields(view)]
    versions = counting_versions(known, keys)
    if view.aggregations:
        keep = timedelta(microseconds=WindowLayout.of(view.aggregations).keep_us)
        return versions.filter(pl.col(AVAILABLE) > _earlier(until, keep)).select(rows.columns)
    newest = versions.filter(pl.col(DIED).is_null()).select(rows.columns)
    past = newest.filter(pl.col(EVENT) <= until).sort(EVENT, *TIE_BREAKERS)
    winners = past.group_by(keys, maintain_order=True).last().select(rows.columns)
    return pl.concat([winners, newest.filter((pl.col(EVENT) > until) | pl.col(EVENT).is_null())])


def _earlier(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment - by
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
