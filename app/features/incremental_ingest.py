"""Ingest of a source that can say what is new: a batch at a time, each there exactly once.

For each batch its refused rows go to the quarantine first, then its rows to the raw table; each commit carries the
cursor behind the batch. A kill before the second leaves a cursor in the quarantine that the raw table has not: the next
ingest reads exactly that batch again and does not quarantine it twice. Of two ingests at once, whoever commits a batch
second finds that the cursors have moved on and drops its files.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from app.features.arrow_types import TIMESTAMP
from app.features.cursors import CURSOR, Cursor, CursorReader, SourceBatch
from app.features.expectations import check
from app.features.known_rows import KnownRows, pushed_rows
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_rows, quarantine_table
from app.features.raw_tables import CREATED, IngestResult, raw_rows, raw_table, row_expectations
from app.features.sources import raw_schema
from app.foundation.lake import Lake
from app.foundation.lake.staging import Commit
from app.foundation.telemetry.progress import StepProgress
from app.spec.features import Source

CURSOR_OF = "cursor_of"  # the raw table whose batch a quarantine's commit belongs to


def ingest_new(
    source: Source, reader: CursorReader, project: str, lake: Lake, run_id: str, progress_step: StepProgress | None
) -> IngestResult:
    """Appends what is new, batch by batch, until nothing is.

    Raises:
        DataError: the data is not as declared; the batch it is in is not written.
    """
    table, quarantine = raw_table(project, source), quarantine_table(project)
    lake.ensure_table(table, raw_schema(source))
    lake.ensure_table(quarantine, QUARANTINE_SCHEMA)
    pushed = pushed_rows(lake, table, source)
    rows = quarantined = 0
    snapshot_id = None
    while True:
        committed, refused = cursors(lake.commits(table)), cursors(lake.commits(quarantine), table)
        again = refused[-1] if refused and refused[-1] not in committed else None
        batch = reader.next_batch(committed, again)
        if batch is None:
            break
        work = _BatchCommit(lake, table, quarantine, committed, refused, pushed)
        done = work.write(source, batch, run_id, with_refused=again is None)
        if done is not None:
            snapshot_id, rows, quarantined = done[0], rows + done[1], quarantined + done[2]
        if progress_step is not None:
            progress_step.note(f"{source.name}: {rows:,} new rows, {quarantined:,} quarantined")
    if snapshot_id is None:
        return IngestResult(source.name, 0, 0, lake.current_snapshot_id(table), already_there=True)
    return IngestResult(source.name, rows, quarantined, snapshot_id, new_rows=rows)


def cursors(commits: Sequence[Commit], of: str | None = None) -> list[Cursor]:
    """Cursors of a raw table's commits, or of the quarantine's that belong to it, oldest first."""
    return [
        json.loads(c.properties[CURSOR])
        for c in commits
        if CURSOR in c.properties and (of is None or c.properties.get(CURSOR_OF) == of)
    ]


@dataclass(frozen=True)
class _BatchCommit:
    """A batch on its way, with the cursors that were there when it was read. `pushed`: rows not to repeat."""

    lake: Lake
    table: str
    quarantine: str
    committed: list[Cursor]
    refused: list[Cursor]
    pushed: KnownRows

    def write(self, source: Source, batch: SourceBatch, run_id: str, with_refused: bool) -> tuple[int, int, int] | None:
        """Snapshot, rows and refused rows written; `None` when another ingest was first."""
        created = datetime.now(UTC)
        passed, failed = check(batch.rows, row_expectations(source))
        passed = self.pushed.unknown(passed)
        lost = pa.concat_tables([quarantine_rows(failed, source.name, created), _unreadable(batch, source, created)])
        marks = {
            "run_id": run_id, "source": source.name, CREATED: created.isoformat(),
            CURSOR: json.dumps(batch.cursor, sort_keys=True),
        }
        if lost.num_rows and with_refused:
            staged = [self.lake.stage(self.quarantine, lost)]
            properties = {**marks, CURSOR_OF: self.table}
            if self.lake.commit_staged(self.quarantine, staged, properties, self._quarantine_unmoved) is None:
                return None
        rows = [self.lake.stage(self.table, raw_rows(passed, source, created))]
        snapshot_id = self.lake.commit_staged(self.table, rows, marks, self._table_unmoved)
        return None if snapshot_id is None else (snapshot_id, passed.num_rows, lost.num_rows if with_refused else 0)

    def _quarantine_unmoved(self, commits: Sequence[Commit]) -> bool:
        return cursors(commits, self.table) == self.refused

    def _table_unmoved(self, commits: Sequence[Commit]) -> bool:
        return cursors(commits) == self.committed


def _unreadable(batch: SourceBatch, source: Source, created: datetime) -> pa.Table:
    """Rows that are not even as declared, as the quarantine keeps them."""
    n = len(batch.refused)
    return pa.table(
        {
            "source": pa.array([source.name] * n, pa.string()),
            "view": pa.nulls(n, pa.string()),
            "reason": pa.array([reason for reason, _ in batch.refused], pa.string()),
            "row": pa.array([text for _, text in batch.refused], pa.string()),
            CREATED: pa.array([created] * n, TIMESTAMP),
        },
        schema=QUARANTINE_SCHEMA,
    )
