"""From a source to its raw table: expectations, quarantine, and nothing written twice."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import ray.data

from app.features.arrow_types import arrow_schema
from app.features.content_hash import combined, content_hash, hash_parts
from app.features.cursors import cursor_reader
from app.features.expectations import check
from app.features.incremental_ingest import ingest_new
from app.features.known_rows import known_rows, newest_rows, refused_rows
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_rows, quarantine_table
from app.features.raw_tables import CREATED, IngestResult, raw_rows, raw_table, row_expectations
from app.features.sources import map_settled, original_errors, raw_schema, settle, source_dataset
from app.foundation.lake import Lake
from app.foundation.telemetry.progress import StepProgress
from app.spec.features import Source

CONTENT_HASH = "content_hash"


def ingest(
    source: Source, project_name: str, lake: Lake, run_id: str, progress_step: StepProgress | None = None
) -> IngestResult:
    """Appends what is new of a source; rows that fail expectations go to quarantine.

    A source that can say what is new is read from its cursor on (`incremental_ingest.py`). Any other is read whole, and
    its rows that are new or changed are appended, also where a value goes back to an earlier one; refused rows that the
    quarantine has are not kept again. The quarantine is written before the raw table, each in one commit: a kill
    between the two is mended by the next run, and the same content is never written twice.

    Raises:
        DataError: the data is not as declared; nothing is written.
    """
    reader = cursor_reader(source)
    if reader is not None:
        return ingest_new(source, reader, project_name, lake, run_id, progress_step)
    with original_errors():
        settled = settle(source_dataset(source, lake), arrow_schema(source.fields))
    digest = content_digest(settled)
    if progress_step is not None:
        progress_step.note(f"{source.name}: content {digest}")
    created = datetime.now(UTC)
    rules = row_expectations(source)
    table, quarantine = raw_table(project_name, source), quarantine_table(project_name)
    known, known_refused = known_rows(lake, table, source), refused_rows(lake, project_name, source)

    def passing(rows: pa.Table) -> pa.Table:
        return raw_rows(check(known.unknown(rows), rules)[0], source, created)

    def failing(rows: pa.Table) -> pa.Table:
        return quarantine_rows(check(rows, rules)[1], source.name, created)

    def not_kept(refused: pa.Table) -> pa.Table:
        return known_refused.unknown(refused, refused.select(["row"]))

    passed, failed = map_settled(settled, passing), map_settled(settled, failing)
    num_new, num_failed = _count(passed), _count(failed)
    num_passed = _count(settled) - num_failed
    lake.ensure_table(table, raw_schema(source))
    lake.ensure_table(quarantine, QUARANTINE_SCHEMA)
    newest = lake.current_snapshot_id(table)
    if newest is not None and newest_digest(lake, table) == digest:  # also where one identity has several rows
        return IngestResult(source.name, num_passed, num_failed, newest, already_there=True)
    marks = {"run_id": run_id, "source": source.name, CREATED: created.isoformat()}
    lost = map_settled(failed, not_kept)
    num_lost = _count(lost)
    with original_errors():
        if num_lost:
            lake.append(quarantine, lost, {**marks, CONTENT_HASH: f"{source.name}:{digest}"})
        if num_new or newest is None:
            newest = lake.append(table, passed, {**marks, CONTENT_HASH: digest})
    nothing = num_new == 0 and num_lost == 0
    return IngestResult(source.name, num_passed, num_failed, newest, already_there=nothing, new_rows=num_new)


def content_digest(settled: pa.Table | ray.data.Dataset) -> str:
    """The hash of all rows together; of what lies in the cluster it is computed there, block by block."""
    if isinstance(settled, pa.Table):
        return content_hash([settled])
    parts = settled.map_batches(_hashed_block, batch_format="pyarrow", batch_size=None).take_all()
    return combined([(int(p["first"]), int(p["second"]), int(p["rows"])) for p in parts])


def _hashed_block(block: pa.Table) -> pa.Table:
    first, second, rows = hash_parts(block)
    sums = {name: pa.array([value], pa.uint64()) for name, value in (("first", first), ("second", second))}
    return pa.table({**sums, "rows": [rows]})


def newest_digest(lake: Lake, table: str) -> str | None:
    """Hash of the whole content that a raw table's newest rows came from."""
    digests = [c.properties[CONTENT_HASH] for c in lake.commits(table) if CONTENT_HASH in c.properties]
    return digests[-1] if digests else None


def read_source(lake: Lake, project_name: str, source: Source) -> pl.DataFrame:
    """Declared columns of a source's raw table, the row written last of each key.

    Raises:
        UnknownNameError: the source has not been ingested.
    """
    rows = newest_rows(pl.DataFrame(lake.read(raw_table(project_name, source))))
    return rows.select(f.name for f in source.fields)


def _count(settled: pa.Table | ray.data.Dataset) -> int:
    return int(settled.num_rows if isinstance(settled, pa.Table) else settled.count())
