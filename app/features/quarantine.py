"""Rows that broke an expectation: kept with the reason, counted, readable, never lost."""

from __future__ import annotations

import json
from datetime import datetime

import polars as pl
import pyarrow as pa

from app.features.arrow_types import TIMESTAMP
from app.features.expectations import REASON
from app.features.raw_tables import CREATED
from app.foundation.lake import Lake

QUARANTINE_SCHEMA = pa.schema(
    [
        ("source", pa.string()), ("view", pa.string()), ("reason", pa.string()), ("row", pa.string()),
        (CREATED, TIMESTAMP),
    ]
)


def quarantine_table(project: str) -> str:
    """Identifier of the table of refused rows."""
    return f"{project}.quarantine"


def quarantine_rows(failed: pa.Table, source: str, created: datetime, view: str | None = None) -> pa.Table:
    """Refused rows as JSON with the reason. `view` is set when it was a view's expectation that refused them."""
    rows = failed.drop_columns([REASON]).to_pylist()
    return pa.table(
        {
            "source": pa.array([source] * len(rows), pa.string()),
            "view": pa.array([view] * len(rows), pa.string()),
            "reason": failed[REASON],
            "row": pa.array([json.dumps(row, default=str) for row in rows], pa.string()),
            CREATED: pa.array([created] * len(rows), TIMESTAMP),
        },
        schema=QUARANTINE_SCHEMA,
    )


def read_quarantine(lake: Lake, project: str, source: str | None = None, view: str | None = None) -> pa.Table:
    """Refused rows of a source, of a view, or all, in the order in which they were refused."""
    table = quarantine_table(project)
    if not lake.exists(table):
        return QUARANTINE_SCHEMA.empty_table()
    lake.ensure_table(table, QUARANTINE_SCHEMA)
    rows = pl.DataFrame(lake.read(table, QUARANTINE_SCHEMA.names))
    if source is not None:
        rows = rows.filter(pl.col("source") == source)
    if view is not None:
        rows = rows.filter(pl.col("view") == view)
    return rows.sort(CREATED, maintain_order=True).to_arrow().cast(QUARANTINE_SCHEMA)


def quarantine_counts(rows: pa.Table) -> dict[tuple[str, str | None, str], int]:
    """Number of refused rows by source, view and reason; no view where the source's own expectations refused."""
    counted = pl.DataFrame(rows).group_by("source", "view", "reason", maintain_order=True).len()
    return {(source, view, reason): n for source, view, reason, n in counted.rows()}
