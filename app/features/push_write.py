"""Writes pushed rows: to the views' tables, to the online store, and those that were refused to quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, get_args

import pyarrow as pa

from app.errors import FeatureStoreError
from app.features.expectations import REASON, check
from app.features.online import Batch, OnlineStore
from app.features.online_read import online_table
from app.features.push import PushResult, Rows, checked, online_batch, stamped_view_rows
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_rows, quarantine_table
from app.features.raw_tables import CREATED, PUSH, raw_table
from app.features.references import ViewRead
from app.features.retention import Maintenance
from app.features.sources import raw_schema
from app.features.view_rows import source_frame
from app.features.view_tables import ensure_view_table, mark_replaced
from app.foundation.lake import Lake
from app.spec.features import FeatureView, Source

Target = Literal["online", "offline", "online_and_offline"]


def write_pushed(
    lake: Lake, online: OnlineStore, project: str, source: Source, views: Sequence[tuple[FeatureView, int]], rows: Rows,
    to: Target,
) -> PushResult:
    """Adds rows of a source to versions of views that read it: computed whole before anything is written.

    The online store is written first, then the rows that were refused, then the source's raw table, from which later
    versions of views are filled, then the views' tables one by one. A push that fails in between may be repeated: rows
    that came twice count once.

    Raises:
        DataError: a column is missing or of another type, or so in a transform's result; nothing is written.
        FeatureStoreError: a transform raised, or there is no such target; nothing is written.
        StoreUnavailableError: the online store cannot be written to; neither are the tables.
    """
    if to not in get_args(Target):
        raise FeatureStoreError(f"cannot push to {to!r}; expected one of {', '.join(get_args(Target))}.", to=to)
    created = datetime.now(UTC)
    raw, failed, result = checked(source, rows, created)
    refused = [quarantine_rows(failed, source.name, created)]
    frame = source_frame(source, raw)
    batches: list[Batch] = []
    computed: list[pa.Table] = []
    for view, version in views:
        table, broken = check(stamped_view_rows(view, raw, frame, created), view.expectations)
        refused.append(quarantine_rows(broken, source.name, created, view.name))
        result = result.with_refused(broken[REASON].to_pylist())
        computed.append(table)
        if to != "offline":
            name = online_table(project, ViewRead(view.name, view, version, ()))
            batches.append(online_batch(name, view, table))
    online.put(batches)
    lost = pa.concat_tables(refused)
    if lost.num_rows:
        quarantine = quarantine_table(project)
        lake.ensure_table(quarantine, QUARANTINE_SCHEMA)
        lake.append(quarantine, lost, {PUSH: source.name, CREATED: created.isoformat()})
    if to != "online":
        marks = {PUSH: source.name, CREATED: created.isoformat()}
        raw_name = raw_table(project, source)
        lake.ensure_table(raw_name, raw_schema(source))
        lake.append(raw_name, raw, marks)
        for (view, version), table in zip(views, computed, strict=True):
            offline = ensure_view_table(lake, project, view, version)
            mark_replaced(lake, offline)
            lake.append(offline, table, marks)
            Maintenance(project, lake).of_view(view, version)
    return result
