"""Reads what was answered and what turned out true, each once."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pyarrow as pa

from app.foundation.lake import Lake
from app.predictionlog.tables import LABELS, MIRRORED, PREDICTIONS, table_name


def read_predictions(
    lake: Lake, project: str, start: datetime, end: datetime, columns: list[str] | None = None
) -> pa.Table:
    """Predictions asked for in `[start, end)` of event time; of repeated attempts the last.

    The result is sorted by prediction time, request and key. `columns`: default all but `features`.
    """
    wanted = columns or [name for name in PREDICTIONS.names if name != "features"]
    identifier = table_name(project, "predictions")
    if not lake.exists(identifier):
        return pa.schema([PREDICTIONS.field(name) for name in wanted]).empty_table()
    needed = dict.fromkeys(
        [*wanted, "request_id", "key", "sequence", "logged_timestamp", "prediction_timestamp"]
    )
    within = f"prediction_timestamp >= '{start.isoformat()}' and prediction_timestamp < '{end.isoformat()}'"
    rows = lake.read(identifier, columns=list(needed), row_filter=within)
    newest = (
        _frame(rows)
        .sort("logged_timestamp", "sequence")
        .unique(["request_id", "key"], keep="last", maintain_order=True)
        .sort("prediction_timestamp", "request_id", "key")
        .select(wanted)
    )
    return newest.to_arrow().cast(pa.schema([PREDICTIONS.field(name) for name in wanted]))


def read_mirrored(lake: Lake, project: str, start: datetime, end: datetime) -> pa.Table:
    """What candidates were shown in `[start, end)` of event time; of repeated attempts the last."""
    identifier = table_name(project, "mirrored")
    if not lake.exists(identifier):
        return MIRRORED.empty_table()
    within = f"prediction_timestamp >= '{start.isoformat()}' and prediction_timestamp < '{end.isoformat()}'"
    rows = lake.read(identifier, columns=MIRRORED.names, row_filter=within)
    newest = (
        _frame(rows)
        .sort("logged_timestamp", "sequence")
        .unique(["request_id", "key"], keep="last", maintain_order=True)
        .sort("prediction_timestamp", "request_id", "key")
    )
    return newest.to_arrow().cast(MIRRORED)


def read_labels(lake: Lake, project: str, available_by: datetime | None = None) -> pa.Table:
    """The truth by key, available by a moment (default: all); of repeated ones the last sent."""
    identifier = table_name(project, "labels")
    wanted = ["key", "label", "available_timestamp", "created_timestamp"]
    schema = pa.schema([LABELS.field(name) for name in wanted])
    if not lake.exists(identifier):
        return schema.empty_table()
    known = None if available_by is None else f"available_timestamp <= '{available_by.isoformat()}'"
    rows = lake.read(identifier, columns=[*wanted, "sequence"], row_filter=known)
    newest = (
        _frame(rows)
        .sort("created_timestamp", "sequence")
        .unique("key", keep="last", maintain_order=True)
        .sort("key")
        .select(wanted)
    )
    return newest.to_arrow().cast(schema)


def join_labels(predictions: pa.Table, labels: pa.Table) -> pa.Table:
    """Predictions with `label` and `label_available_timestamp`, null where the truth is not known."""
    truth = _frame(labels.select(["key", "label", "available_timestamp"])).rename(
        {"available_timestamp": "label_available_timestamp"}
    )
    return _frame(predictions).join(truth, on="key", how="left", maintain_order="left").to_arrow()


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame
