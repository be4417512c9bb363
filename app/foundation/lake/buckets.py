"""Iceberg buckets: which partition of a table holds a value, and splitting rows by it. Pure.

The number is the one every Iceberg reader computes (murmur3 of the value, modulo the number of buckets), so rows can be
sent to where a table's rows lie without moving the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform
from pyiceberg.types import DateType, LongType, PrimitiveType, StringType, TimestamptzType

from app.foundation.lake.table_schema import TIMESTAMP

NOBODY = -1  # the bucket of a null
BUCKETED_TYPES: dict[pa.DataType, PrimitiveType] = {  # what can be bucketed, of the types the lake keeps
    pa.int64(): LongType(), pa.string(): StringType(), TIMESTAMP: TimestamptzType(), pa.date32(): DateType(),
}


@dataclass(frozen=True)
class Buckets:
    """How a table is partitioned: rows with one value of `column` lie in one of `number` buckets."""

    column: str
    number: int

    @classmethod
    def of(cls, spec: PartitionSpec, schema: Schema) -> Buckets | None:
        """What a table's partition spec says; `None` unless it is one bucket of one column."""
        if len(spec.fields) != 1 or not isinstance(spec.fields[0].transform, BucketTransform):
            return None
        column = schema.find_column_name(spec.fields[0].source_id)
        return None if column is None else cls(column, spec.fields[0].transform.num_buckets)


def bucket_numbers(values: Any, number: int) -> np.ndarray:
    """The bucket of each value as int64, `NOBODY` for a null.

    >>> bucket_numbers(pa.array([34, None], pa.int64()), 16).tolist()  # 34 hashes to 2017239379, says the Iceberg spec
    [3, -1]
    """
    column = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    encoded = column.dictionary_encode()  # each distinct value is hashed once
    kind = BUCKETED_TYPES[column.type]
    of_distinct = BucketTransform(number).pyarrow_transform(kind)(encoded.dictionary).cast(pa.int64())
    found = pc.take(of_distinct, encoded.indices)
    return np.asarray(found.fill_null(NOBODY).to_numpy(zero_copy_only=False), dtype=np.int64)


def split_by_bucket(rows: pa.Table, buckets: Buckets, sort_by: str | None = None) -> dict[int, pa.Table]:
    """The rows of each bucket, in order of `sort_by`, else in their own; buckets without rows are left out."""
    if rows.num_rows == 0:
        return {}
    numbers = bucket_numbers(rows[buckets.column], buckets.number)
    if buckets.number <= np.iinfo(np.int16).max:
        numbers = numbers.astype(np.int16)  # numpy sorts these by counting
    if sort_by is None:
        order = np.argsort(numbers, kind="stable")
    else:
        moments = rows[sort_by].cast(pa.int64()).fill_null(0).to_numpy()
        in_time = bool((moments[1:] >= moments[:-1]).all())
        order = np.argsort(numbers, kind="stable") if in_time else np.lexsort((moments, numbers))
    ordered = rows.take(pa.array(order))
    present, starts = np.unique(numbers[order], return_index=True)
    ends = np.append(starts[1:], rows.num_rows)
    return {int(b): ordered.slice(s, e - s) for b, s, e in zip(present, starts, ends, strict=True)}
