"""Rewrites small data files of a table into larger ones: the same rows in the same table, fewer files.

What others append meanwhile stays: the commit replaces exactly the files that were rewritten, is made only on the table
as it was just looked at, and is tried again on the table as it is then. Of two compactions at once the second finds its
files gone and drops what it wrote. Earlier snapshots still refer to the small files, which go when those are forgotten
and swept. Memory: one group of files.

A compaction is a commit without rows of its own. Who counts commits to know what is new reads `Commit.compacts`, and
`newest_with_rows` instead of the last sequence number.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyiceberg.conversions import from_bytes
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import _dataframe_to_data_files
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.types import NestedField, PrimitiveType

from app.errors import FeatureStoreError, StateConflictError
from app.foundation.lake.bucket_scan import BucketScan, DataFileRef
from app.foundation.lake.buckets import NOBODY, Buckets
from app.foundation.lake.clustered_write import sort_column, write_bucket
from app.foundation.lake.staging import ATTEMPTS, COMPACTED, MAX_WAIT_S, ONE_ATTEMPT, commits, newest_with_rows
from app.foundation.lake.table_schema import kept_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table


@dataclass(frozen=True)
class CompactionPolicy:
    """`small_bytes`: a smaller file is rewritten. `target_bytes`, `target_rows`: what one rewritten file holds at most.

    `at_least`: so many small files of a bucket are worth it. Sizes are those on disk.
    """

    small_bytes: int = 8 * 2**20
    target_bytes: int = 64 * 2**20
    target_rows: int = 1_000_000
    at_least: int = 4


COMPACTION = CompactionPolicy()


@dataclass(frozen=True)
class KnownFile:
    """A data file as the decision sees it. `order`: where its rows lie among those of the others of its bucket."""

    path: str
    bucket: int
    size_bytes: int
    num_rows: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class CompactionResult:
    """Data files of a table before and after; `rewritten` of the former became `written` of the latter."""

    table: str
    files_before: int
    files_after: int
    rewritten: int = 0
    written: int = 0
    rows: int = 0
    snapshot_id: int | None = None


def decide_compaction(files: Sequence[KnownFile], policy: CompactionPolicy) -> list[list[KnownFile]]:
    """Groups of small files that become one file each: of one bucket, neighbours in its order.

    Args:
        files: all of a table.
        policy: what is small, and how large a group may be.
    """
    small: dict[int, list[KnownFile]] = {}
    for file in sorted(files, key=lambda f: (*f.order, f.path)):
        if file.size_bytes < policy.small_bytes:
            small.setdefault(file.bucket, []).append(file)
    groups: list[list[KnownFile]] = []
    for of_bucket in small.values():
        group: list[KnownFile] = []
        for file in of_bucket:
            size_bytes = sum(f.size_bytes for f in group) + file.size_bytes
            num_rows = sum(f.num_rows for f in group) + file.num_rows
            if group and (size_bytes > policy.target_bytes or num_rows > policy.target_rows):
                groups.append(group)
                group = []
            group.append(file)
        groups.append(group)
    return [group for group in groups if len(group) >= max(policy.at_least, 2)]


def compact(load: Callable[[], Table], identifier: str, policy: CompactionPolicy) -> CompactionResult:
    """Rewrites what `decide_compaction` says, in one commit; none when there is nothing to do.

    Args:
        load: gives the table as it is now.
        identifier: its name.
        policy: what is small.

    Raises:
        FeatureStoreError: the table has deleted rows, or a file does not hold the rows it should; nothing is changed.
        StateConflictError: others kept committing first.
    """
    table = load()
    files = live_files(table, identifier)
    groups = decide_compaction([known for known, _ in files.values()], policy)
    if not groups:
        return CompactionResult(identifier, len(files), len(files))
    written: list[DataFile] = []
    try:
        for group in groups:
            written += rewritten(table, identifier, group)
    except BaseException:
        _delete(table, written)
        raise
    return _replace(load, identifier, [files[f.path][1] for group in groups for f in group], written)


def live_files(table: Table, identifier: str) -> dict[str, tuple[KnownFile, DataFile]]:
    """The data files of the newest snapshot by path.

    Raises:
        FeatureStoreError: the table has delete files, which only an upsert or delete by others can leave.
    """
    snapshot = table.current_snapshot()
    column = sort_column(table.metadata)
    field = None if column is None else table.schema().find_field(column)
    bucketed = Buckets.of(table.spec(), table.schema()) is not None
    found: dict[str, tuple[KnownFile, DataFile]] = {}
    for manifest in snapshot.manifests(table.io) if snapshot is not None else ():
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            file = entry.data_file
            if file.content != DataFileContent.DATA:
                raise FeatureStoreError(
                    f"table {identifier} has delete files; it is append-only and is not compacted. Restore the last "
                    "snapshot without them.", table=identifier,
                )
            first = 0 if field is None else _lowest(file, field)
            bucket = int(file.partition[0]) if bucketed and file.partition[0] is not None else NOBODY
            order = (entry.sequence_number or 0,) if field is None else (first, entry.sequence_number or 0)
            known = KnownFile(file.file_path, bucket, file.file_size_in_bytes, file.record_count, order)
            found[file.file_path] = (known, file)
    return found


def _lowest(file: DataFile, field: NestedField) -> int:
    """The file's first moment in a column of moments."""
    lowest = file.lower_bounds.get(field.field_id)
    assert isinstance(field.field_type, PrimitiveType)
    return 0 if lowest is None else int(from_bytes(field.field_type, lowest))


def rewritten(table: Table, identifier: str, group: Sequence[KnownFile]) -> list[DataFile]:
    """Writes the rows of a group of files as new files, in the table's order, else in that of the files.

    Raises:
        FeatureStoreError: the files hold another number of rows than the table says.
    """
    rows = _rows(table, identifier, group)
    expected = sum(file.num_rows for file in group)
    if rows.num_rows != expected:
        raise FeatureStoreError(
            f"table {identifier} is not compacted: {len(group)} of its files hold {rows.num_rows} rows, its metadata "
            f"says {expected}. Somebody has changed a file; restore it.", table=identifier,
        )
    if Buckets.of(table.spec(), table.schema()) is None:
        return list(_dataframe_to_data_files(table.metadata, rows, table.io))
    column = sort_column(table.metadata)
    return write_bucket(table.metadata, table.io, group[0].bucket, rows.sort_by(column) if column else rows)


def _rows(table: Table, identifier: str, group: Sequence[KnownFile]) -> pa.Table:
    schema = kept_schema(table.schema().as_arrow())
    files = {group[0].bucket: tuple(DataFileRef(f.path, f.num_rows) for f in group)}
    scan = BucketScan(identifier, None, None, files, schema, AlwaysTrue(), table.schema(), table.io, {})
    return scan.read(schema.names)


def _replace(
    load: Callable[[], Table], identifier: str, old: Sequence[DataFile], new: Sequence[DataFile]
) -> CompactionResult:
    for attempt in range(ATTEMPTS):
        table = load()
        present = live_files(table, identifier)
        if any(file.file_path not in present for file in old):
            _delete(table, new)  # another compaction was first
            return CompactionResult(identifier, len(present), len(present))
        table.metadata = table.metadata.model_copy(update={"properties": {**table.properties, **ONE_ATTEMPT}})
        marks = {COMPACTED: str(newest_with_rows(commits(table)))}
        try:
            with table.transaction() as transaction, transaction.update_snapshot(marks).overwrite() as replace:
                if not table.spec().fields:
                    replace.delete_by_predicate(AlwaysTrue())  # else it looks for the files in no manifest at all
                for file in old:
                    replace.delete_data_file(file)
                for file in new:
                    replace.append_data_file(file)
                snapshot_id = replace.snapshot_id
        except CommitFailedException:
            time.sleep(random.uniform(0, min(0.01 * 2**attempt, MAX_WAIT_S)))
            continue
        after = len(present) - len(old) + len(new)
        rows = sum(file.record_count for file in new)
        return CompactionResult(identifier, len(present), after, len(old), len(new), rows, int(snapshot_id))
    _delete(load(), new)
    raise StateConflictError(f"a compaction of {identifier} kept losing to other writers. Try again.", table=identifier)


def _delete(table: Any, files: Sequence[DataFile]) -> None:
    for file in files:
        table.io.delete(file.file_path)
