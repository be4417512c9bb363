"""Puts rows into a source's raw table as an ingest would, without Ray."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa

from app.features.arrow_types import conform
from app.features.expectations import check
from app.features.raw_tables import CREATED, raw_rows, raw_table, row_expectations
from app.features.sources import raw_schema
from app.foundation.lake import Lake
from app.spec import Source


def put_raw(lake: Lake, source: Source, frame: pd.DataFrame, project: str = "shop") -> None:
    """One commit of the rows that keep the source's expectations."""
    created = datetime.now(UTC)
    table = conform(pa.Table.from_pandas(frame, preserve_index=False), source.fields, source.name)
    lake.ensure_table(raw_table(project, source), raw_schema(source))
    rows = raw_rows(check(table, row_expectations(source))[0], source, created)
    lake.append(raw_table(project, source), rows, {CREATED: created.isoformat()})
