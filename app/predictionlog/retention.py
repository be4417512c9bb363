"""How long the prediction log is kept: rows past the project's time go, with the snapshots and files that hold them.

Each shipper finds its last batch by a snapshot's property, and a snapshot keeps the files of its time. So that the
batch of a host that ships no more keeps no old rows, its note is moved to a commit without rows, after the deletion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.foundation.lake import Lake, Retention
from app.foundation.lake.orphans import MIN_AGE
from app.foundation.lake.staging import Commit
from app.predictionlog.segment import Kind
from app.predictionlog.shipper import BATCH_PROPERTY, OFFSETS_PROPERTY, last_batches
from app.predictionlog.tables import table_name

# By when a row was written, not by the moment that it is about: a replay logs about last year today.
WRITTEN: dict[Kind, str] = {
    "predictions": "logged_timestamp", "labels": "created_timestamp", "mirrored": "logged_timestamp",
}
# A snapshot that may be being read stays for an hour; the next call forgets it.
SNAPSHOTS = Retention(num_newest=1, younger_than=MIN_AGE, at_least=1)


@dataclass(frozen=True)
class Forgotten:
    """What went of one table. `files` and `size_bytes`: data and metadata that nothing refers to any more."""

    table: str
    rows: int
    snapshots: int
    files: int
    size_bytes: int


def forget_old(lake: Lake, project: str, kept: timedelta, now: datetime) -> list[Forgotten]:
    """Deletes what was logged more than `kept` before `now`, and what only forgotten snapshots still hold.

    Reading sees the rows no more at once; their files go with this call or, where the snapshot that holds them is
    younger than an hour, with a later one.

    Raises:
        StateConflictError: others kept committing first; what was done so far stands.
    """
    tables = {table_name(project, kind): column for kind, column in WRITTEN.items()}
    return [
        _forget(lake, table, column, now - kept, now) for table, column in tables.items() if lake.exists(table)
    ]


def _forget(lake: Lake, table: str, column: str, limit: datetime, now: datetime) -> Forgotten:
    num_rows = lake.delete_before(table, column, limit)
    if num_rows:
        _move_notes(lake, table)
    num_snapshots = lake.expire_snapshots(table, SNAPSHOTS, last_batches, now)
    swept = lake.sweep_orphans(table, MIN_AGE, now)
    return Forgotten(table, num_rows, num_snapshots, swept.files, swept.size_bytes)


def _move_notes(lake: Lake, table: str) -> None:
    """Repeats the note of each shipper's last batch on the table as it is now, unless the shipper goes on meanwhile."""
    found = lake.commits(table)
    last = last_batches(found)
    for commit in (c for c in found if c.snapshot_id in last):
        note = {name: commit.properties[name] for name in (BATCH_PROPERTY, OFFSETS_PROPERTY)}

        def is_last(present: Sequence[Commit], snapshot_id: int = commit.snapshot_id) -> bool:
            return snapshot_id in last_batches(present)

        lake.commit_staged(table, [], note, is_last)
