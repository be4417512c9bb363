"""Appends in two moves: data files first, then one commit that may still be called off.

`Lake.append` retries a lost commit as it is. A writer whose rows make sense only while nobody else has written
the same must look again before each attempt: it stages its rows, and `commit_staged` asks `wanted` about the commits
that are there at that very attempt. Iceberg lets the commit through only when the table has not changed since.
An empty commit is a commit: it says that a stretch was looked at and held nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile

from app.errors import StateConflictError
from app.foundation.lake.buckets import Buckets
from app.foundation.lake.clustered_write import write_table

if TYPE_CHECKING:
    from pyiceberg.table import Table

ATTEMPTS = 60  # a writer of another range loses to every other one at most once each round
MAX_WAIT_S = 1.0
ONE_ATTEMPT = {"commit.retry.num-retries": "0"}  # ours look at the table between attempts, pyiceberg's do not
COMPACTED = "millrace.compacted"  # property of a compaction's commit: the newest commit with rows that it knew


@dataclass(frozen=True)
class Commit:
    """A snapshot of a table. `sequence_number` grows with each; `properties` are those recorded with it."""

    snapshot_id: int
    sequence_number: int
    properties: dict[str, str]

    @property
    def compacts(self) -> bool:
        """Whether it only put rows of earlier commits into other files."""
        return COMPACTED in self.properties


@dataclass(frozen=True)
class StagedRows:
    """Data files that no snapshot refers to yet."""

    identifier: str
    files: tuple[DataFile, ...]

    @property
    def num_rows(self) -> int:
        return sum(file.record_count for file in self.files)


Wanted = Callable[[Sequence[Commit]], bool]


def commits(table: Table) -> list[Commit]:
    """The snapshots of a table, oldest first."""
    found = [
        Commit(s.snapshot_id, s.sequence_number or 0, {} if s.summary is None else s.summary.additional_properties)
        for s in table.snapshots()
    ]
    return sorted(found, key=lambda commit: commit.sequence_number)


def newest_with_rows(found: Sequence[Commit]) -> int:
    """Sequence number of the newest commit that is no compaction, 0 without one; also where it was forgotten since."""
    return max((int(c.properties[COMPACTED]) if c.compacts else c.sequence_number for c in found), default=0)


def stage_rows(table: Table, identifier: str, rows: pa.Table) -> StagedRows:
    """Writes conformed rows as data files of the table, one for each bucket in the table's order."""
    if rows.num_rows == 0:
        return StagedRows(identifier, ())
    buckets = Buckets.of(table.spec(), table.schema())
    if buckets is not None:
        return StagedRows(identifier, tuple(write_table(table, buckets, rows)))
    return StagedRows(identifier, tuple(_dataframe_to_data_files(table.metadata, rows, table.io)))


def commit_staged(
    load: Callable[[], Table], staged: Sequence[StagedRows], properties: dict[str, str], wanted: Wanted
) -> int | None:
    """Makes staged rows part of their table in one commit, empty or not.

    Args:
        load: gives the table as it is now.
        staged: all of one table.
        properties: recorded with the snapshot.
        wanted: whether the rows still make sense, given the commits that are there.

    Returns:
        The snapshot's id; `None` when the rows were no longer wanted, and their files were deleted.

    Raises:
        StateConflictError: others kept committing first.
    """
    files = [file for part in staged for file in part.files]
    for attempt in range(ATTEMPTS):
        table = load()
        if not wanted(commits(table)):
            for file in files:
                table.io.delete(file.file_path)
            return None
        table.metadata = table.metadata.model_copy(update={"properties": {**table.properties, **ONE_ATTEMPT}})
        try:
            with (
                table.transaction() as transaction,
                transaction.update_snapshot(snapshot_properties=properties).merge_append() as append,
            ):
                for file in files:
                    append.append_data_file(file)
            snapshot = transaction._table.current_snapshot()
            assert snapshot is not None
            return snapshot.snapshot_id
        except CommitFailedException:
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, MAX_WAIT_S)))
    name = staged[0].identifier if staged else "the table"
    raise StateConflictError(f"a commit to {name} kept losing to other writers. Try again.", table=name)
