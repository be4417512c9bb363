"""Writing a bucketed table so that a commit makes one file for each bucket, in the table's order.

A dataset's blocks are split by bucket where they lie; then one task for each bucket gathers its pieces, sorts them and
writes. Ray's own writer makes a file for each task and bucket, 32 where 8 do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionFieldValue, PartitionKey
from pyiceberg.table.metadata import TableMetadata

from app.foundation.lake.buckets import NOBODY, Buckets, split_by_bucket
from app.foundation.lake.parquet_file import write_data_file

if TYPE_CHECKING:
    import ray.data
    from pyiceberg.table import Table

TARGET_BYTES = 512 * 1024 * 1024  # of a file's rows in memory; a larger bucket gets several files
ROWS_PER_SPLIT = 500_000  # a task splits about so many rows; smaller blocks share one


def sort_column(metadata: TableMetadata) -> str | None:
    """The column a table is ordered by."""
    fields = metadata.sort_order().fields
    return metadata.schema().find_column_name(fields[0].source_id) if fields else None


def write_bucket(metadata: TableMetadata, io: FileIO, bucket: int, rows: pa.Table) -> list[DataFile]:
    """Writes the rows of one bucket, already in order."""
    (field,) = metadata.spec().fields
    value = PartitionFieldValue(field=field, value=None if bucket == NOBODY else bucket)
    key = PartitionKey([value], metadata.spec(), metadata.schema())
    rows_per_file = max(TARGET_BYTES * rows.num_rows // max(rows.nbytes, 1), 1)
    return [
        write_data_file(metadata, io, rows.slice(i, rows_per_file), key)
        for i in range(0, rows.num_rows, rows_per_file)
    ]


def write_table(table: Table, buckets: Buckets, rows: pa.Table) -> list[DataFile]:
    """Writes conformed rows from this process."""
    pieces = split_by_bucket(rows, buckets, sort_column(table.metadata))
    written = [write_bucket(table.metadata, table.io, bucket, piece) for bucket, piece in pieces.items()]
    return [file for files in written for file in files]


def write_dataset(
    table: Table, buckets: Buckets, rows: ray.data.Dataset, conform: Callable[[pa.Table], pa.Table]
) -> list[DataFile]:
    """Writes a dataset from Ray's workers; `conform` brings each block to the table's schema."""
    import ray

    done = rows.materialize()
    blocks = done.to_arrow_refs()
    num_splits = max(1, min(len(blocks), -(-done.count() // ROWS_PER_SPLIT)))
    split = ray.remote(_split).options(num_returns=buckets.number + 1)
    pieces = [split.remote(buckets, conform, *group) for group in grouped(blocks, num_splits)]
    write = ray.remote(_write)
    order = sort_column(table.metadata)
    written = [
        write.remote(table.metadata, table.io, bucket, order, *(piece[bucket + 1] for piece in pieces))
        for bucket in range(NOBODY, buckets.number)
    ]
    return [file for files in ray.get(written) for file in files]


def commit(table: Table, files: Sequence[DataFile], properties: dict[str, str]) -> int:
    """Adds written files to the table in one snapshot and gives its id."""
    with table.transaction() as transaction, transaction.update_snapshot(properties).merge_append() as added:
        for file in files:
            added.append_data_file(file)
        snapshot_id = added.snapshot_id
    return int(snapshot_id)


def grouped(items: Sequence[Any], number: int) -> list[list[Any]]:
    """Consecutive groups of nearly equal length.

    >>> grouped([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4, 5]]
    """
    edges = [round(i * len(items) / number) for i in range(number + 1)]
    return [list(items[a:b]) for a, b in pairwise(edges)]


def _split(buckets: Buckets, conform: Callable[[pa.Table], pa.Table], *blocks: pa.Table) -> list[pa.Table | None]:
    pieces = split_by_bucket(pa.concat_tables([conform(block) for block in blocks]), buckets)
    return [pieces.get(bucket) for bucket in range(NOBODY, buckets.number)]


def _write(
    metadata: TableMetadata, io: FileIO, bucket: int, order: str | None, *pieces: pa.Table | None
) -> list[DataFile]:
    present = [piece for piece in pieces if piece is not None]
    if not present:
        return []
    rows = pa.concat_tables(present)
    return write_bucket(metadata, io, bucket, rows.sort_by(order) if order else rows)
