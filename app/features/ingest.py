"""From a source to its raw table: expectations, quarantine, and nothing written twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import ray.data

from app.features.arrow_types import TIMESTAMP, arrow_schema
from app.features.content_hash import content_hash
from app.features.expectations import check
from app.features.keys import row_keys
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_rows, quarantine_table
from app.features.sources import map_settled, original_errors, raw_schema, settle, source_dataset
from app.foundation.lake import Lake
from app.foundation.telemetry.progress import StepProgress
from app.spec.features import Expectation, Source

CREATED = "created_timestamp"
CONTENT_HASH = "content_hash"


@dataclass(frozen=True)
class IngestResult:
    """What one ingest found. `already_there`: the same content had been ingested before, nothing was written."""

    source: str
    rows: int
    quarantined: int
    snapshot_id: int | None
    already_there: bool = False


def raw_table(project: str, source: Source) -> str:
    """Identifier of a source's raw table."""
    return f"{project}.raw_{source.name}"


def ingest(
    source: Source, project_name: str, lake: Lake, run_id: str, progress_step: StepProgress | None = None
) -> IngestResult:
    """Reads the source whole and appends it when its content is new; rows that fail expectations go to quarantine.

    The quarantine is written before the raw table, each in one commit marked with the content's hash: a kill
    between the two is mended by the next run, and the same content is never written twice.

    Raises:
        DataError: the data is not as declared; nothing is written.
    """
    with original_errors():
        settled = settle(source_dataset(source, lake), arrow_schema(source.fields))
    digest = content_hash(_tables(settled))
    if progress_step is not None:
        progress_step.note(f"{source.name}: content {digest}")
    created = datetime.now(UTC)
    rules = row_expectations(source)

    def passing(table: pa.Table) -> pa.Table:
        return raw_rows(check(table, rules)[0], source, created)

    def failing(table: pa.Table) -> pa.Table:
        return quarantine_rows(check(table, rules)[1], source.name, created)

    passed, failed = map_settled(settled, passing), map_settled(settled, failing)
    num_passed, num_failed = _count(passed), _count(failed)
    table, quarantine = raw_table(project_name, source), quarantine_table(project_name)
    lake.ensure_table(table, raw_schema(source))
    lake.ensure_table(quarantine, QUARANTINE_SCHEMA)
    found = lake.find_commit(table, CONTENT_HASH, digest)
    if found is not None:
        return IngestResult(source.name, num_passed, num_failed, found, already_there=True)
    marks = {"run_id": run_id, "source": source.name, CREATED: created.isoformat()}
    quarantine_mark = f"{source.name}:{digest}"
    with original_errors():
        if num_failed and lake.find_commit(quarantine, CONTENT_HASH, quarantine_mark) is None:
            lake.append(quarantine, failed, {**marks, CONTENT_HASH: quarantine_mark})
        snapshot_id = lake.append(table, passed, {**marks, CONTENT_HASH: digest})
    return IngestResult(source.name, num_passed, num_failed, snapshot_id)


def row_expectations(source: Source) -> tuple[Expectation, ...]:
    """The declared rules, and that every row has an event time."""
    return (Expectation(source.event_timestamp, not_null=True), *source.expectations)


def raw_rows(table: pa.Table, source: Source, created: datetime) -> pa.Table:
    """Declared columns with the row's identity and the moment we wrote it."""
    keys = row_keys(pl.DataFrame(table), source.key).to_list()
    return table.append_column("row_key", pa.array(keys, pa.string())).append_column(
        CREATED, pa.repeat(pa.scalar(created, TIMESTAMP), table.num_rows)
    )


def read_source(lake: Lake, project_name: str, source: Source) -> pl.DataFrame:
    """Declared columns of a source's raw table, the row written last of each key.

    Raises:
        UnknownNameError: the source has not been ingested.
    """
    rows = newest_rows(pl.DataFrame(lake.read(raw_table(project_name, source))))
    return rows.select(f.name for f in source.fields)


def newest_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The row written last of each row key."""
    if not rows["row_key"].is_duplicated().any():
        return rows
    return rows.sort(CREATED, maintain_order=True).unique("row_key", keep="last", maintain_order=True)


def _tables(settled: pa.Table | ray.data.Dataset) -> Iterator[pa.Table]:
    if isinstance(settled, pa.Table):
        yield settled
    else:
        yield from settled.iter_batches(batch_format="pyarrow", batch_size=None)


def _count(settled: pa.Table | ray.data.Dataset) -> int:
    return int(settled.num_rows if isinstance(settled, pa.Table) else settled.count())
