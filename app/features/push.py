"""Rows that arrive one by one, made ready for the online store and the view's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from app.features.arrow_types import TIMESTAMP, conform, rows_to_table
from app.features.expectations import REASON, check
from app.features.ingest import CREATED, raw_rows, row_expectations
from app.features.keys import entity_keys
from app.features.online import LatestRow, OnlineStore, WindowRow, WindowSpec
from app.features.point_in_time import AVAILABLE, EVENT, TIE_BREAKERS
from app.features.view_rows import key_fields, view_rows
from app.features.window_rows import float_values, resolve
from app.spec.features import FeatureView, Source

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ONLINE_UNITS: dict[str, Literal["us", "d"]] = {"timestamp": "us", "date": "d"}  # since the epoch, as whole numbers
Rows = Sequence[dict[str, Any]] | pd.DataFrame


@dataclass(frozen=True)
class PushResult:
    """How many rows were taken, and why the others were refused."""

    accepted: int
    refused: tuple[str, ...] = ()


def micros_of(moment: datetime) -> int:
    """Microseconds since the epoch; a moment without a zone is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def checked(source: Source, rows: Rows, created: datetime) -> tuple[pa.Table, pa.Table, PushResult]:
    """Rows as the source declares them, with identity and created time; those that break an expectation apart.

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
    return raw_rows(passed, source, created), failed, result


def stamped_view_rows(view: FeatureView, raw: pa.Table, frame: pd.DataFrame, created: datetime) -> pa.Table:
    """Rows of the view's table out of raw rows."""
    rows = view_rows(view, raw, frame)
    return rows.append_column(CREATED, pa.array([created] * rows.num_rows, TIMESTAMP))


def put_online(store: OnlineStore, table: str, view: FeatureView, rows: pl.DataFrame) -> None:
    """Writes rows of the view's table to the online store; rows without a whole key are nobody's."""
    keys = entity_keys(rows, [f.name for f in key_fields(view)])
    rows = rows.with_columns(keys.alias("__key")).drop_nulls("__key")
    if rows.height == 0:
        return
    event, available, created = (rows[c].dt.epoch("us").to_list() for c in (EVENT, AVAILABLE, CREATED))
    key, row_key = rows["__key"].to_list(), rows["row_key"].to_list()
    if view.aggregations:
        spec = WindowSpec.of(view)
        values = np.column_stack([float_values(rows[c]) for c in spec.columns])
        packed = (row.tobytes() for row in values)
        store.put_windows(table, list(map(WindowRow, key, event, available, created, row_key, packed)), spec)
        return
    features = rows.select(
        pl.col(f.name).dt.epoch(ONLINE_UNITS[f.dtype]) if f.dtype in ONLINE_UNITS else pl.col(f.name)
        for f in view.fields
    )
    texts = (json.dumps(values) for values in features.iter_rows())
    store.put_latest(table, list(map(LatestRow, key, event, available, created, row_key, texts)))


def newest_for_online(view: FeatureView, rows: pl.DataFrame, until: datetime) -> pl.DataFrame:
    """Of all rows of a view's table, those the online store needs to answer from `until` on."""
    known = rows.filter(pl.col(AVAILABLE) <= until)
    if view.aggregations:
        keep = timedelta(microseconds=WindowSpec.of(view).keep_us)
        return resolve(known).filter(pl.col(AVAILABLE) > _earlier(until, keep))
    keys = [f.name for f in key_fields(view)]
    past = known.filter(pl.col(EVENT) <= until).sort(EVENT, *TIE_BREAKERS)
    winners = past.group_by(keys, maintain_order=True).last().select(rows.columns)
    return pl.concat([winners, known.filter(pl.col(EVENT) > until)])


def _earlier(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment - by
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
