"""Writes pushed rows: to the views' tables, to the online store, and those that were refused to quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import pyarrow as pa

from app.features.expectations import REASON, check
from app.features.online import Batch, OnlineStore
from app.features.online_read import online_table
from app.features.push import PushResult, Rows, checked, online_batch, stamped_view_rows
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_rows, quarantine_table
from app.features.references import ViewRead
from app.features.view_rows import source_frame
from app.features.view_tables import ensure_view_table
from app.foundation.lake import Lake
from app.spec.features import FeatureView, Source

Target = Literal["online", "offline", "online_and_offline"]


def write_pushed(
    lake: Lake, online: OnlineStore, project: str, source: Source, views: Sequence[tuple[FeatureView, int]], rows: Rows,
    to: Target,
) -> PushResult:
    """Adds rows of a source to versions of views that read it.

    Raises:
        DataError: a column is missing or of another type; nothing is taken.
        FeatureStoreError: a transform raised; nothing is written to any view.
    """
    created = datetime.now(UTC)
    raw, failed, result = checked(source, rows, created)
    refused = [quarantine_rows(failed, source.name, created)]
    frame = source_frame(source, raw)
    computed: list[tuple[FeatureView, int, pa.Table]] = []
    for view, version in views:  # every transform has run before anything is written
        table, broken = check(stamped_view_rows(view, raw, frame, created), view.expectations)
        refused.append(quarantine_rows(broken, source.name, created, view.name))
        result = result.with_refused(broken[REASON].to_pylist())
        computed.append((view, version, table))
    batches: list[Batch] = []
    for view, version, table in computed:
        if to != "online":
            offline = ensure_view_table(lake, project, view, version)
            lake.append(offline, table, {"push": source.name, "created_timestamp": created.isoformat()})
        if to != "offline":
            name = online_table(project, ViewRead(view.name, view, version, ()))
            batches.append(online_batch(name, view, table))
    online.put(batches)
    lost = pa.concat_tables(refused)
    if lost.num_rows:
        quarantine = quarantine_table(project)
        lake.ensure_table(quarantine, QUARANTINE_SCHEMA)
        lake.append(quarantine, lost, {"push": source.name})
    return result
