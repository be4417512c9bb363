"""The join by storage partitions: the spine is split as the tables are, the tables stay where they are.

1. Each chunk of the spine is split into pieces by the tables' own buckets: keys, moments and row numbers only.
2. For each view and bucket one task takes that bucket's pieces, reads that bucket's files with the columns and times
   needed, and does one join. A bucket too large for a task is joined in parts of time (`hot_keys.py`).
3. Each chunk gathers its features by row number.

Pieces and results lie in Ray's object store, which spills; no process holds more than a chunk or a bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from app.features.arrow_types import arrow_schema
from app.features.hot_keys import PIECE, ROW, TIME, join_in_parts, parted, stacked
from app.features.join_view import join_view
from app.features.spine import moments, one_table, spine_keys
from app.features.tasks import Tasks
from app.features.view_rows import key_fields
from app.features.view_scan import ViewScan
from app.foundation.lake import NOBODY, Buckets, bucket_numbers

TASK_ROWS = 4_000_000  # of a view's rows or of spine rows that one task joins at most
Columns = dict[tuple[str, str], pa.ChunkedArray]


@dataclass(frozen=True)
class Split:
    """One way to split a spine; views with the same keys and buckets share it. `position`: of its first piece."""

    key_columns: tuple[str, ...]
    dtypes: tuple[str, ...]
    buckets: Buckets | None
    position: int

    @property
    def numbers(self) -> range:
        """The buckets that can have features; rows with a null key are nobody's."""
        return range(NOBODY, 0) if self.buckets is None else range(self.buckets.number)


def decide_splits(views: Sequence[ViewScan]) -> list[Split]:
    """The split of each view."""
    known: dict[tuple[Any, ...], Split] = {}
    splits = []
    position = 0
    for view in views:
        dtypes = tuple(f.dtype for f in key_fields(view.read.view))
        buckets = view.scan.buckets
        renamed = None if buckets is None else view.read.view.join_keys.index(buckets.column)
        key = (view.read.key_columns, dtypes, renamed, None if buckets is None else buckets.number)
        if key not in known:
            known[key] = Split(view.read.key_columns, dtypes, buckets, position)
            position += len(known[key].numbers)
        splits.append(known[key])
    return splits


def split_chunk(views: Sequence[ViewScan], splits: Sequence[Split], *blocks: pa.Table) -> list[Any]:
    """The number of rows in each piece, then the pieces, `None` for those without rows.

    Raises:
        SchemaMismatchError: a join key of another type.
        TimestampError: moments that cannot be read.
    """
    spine = one_table(blocks)
    times = moments(spine).alias(TIME)
    pieces: list[pa.Table | None] = []
    for view, split in zip(views, splits, strict=True):
        if split.position < len(pieces):
            continue
        keys = spine_keys(spine, key_fields(view.read.view), view.read.key_columns, view.read.view.name)
        row = pl.int_range(len(times), dtype=pl.UInt32, eager=True).alias(ROW)
        frame = pl.DataFrame([*keys.get_columns(), times, row])
        pieces += _pieces(frame, split)
    return [[0 if piece is None else piece.num_rows for piece in pieces], *pieces]


def _pieces(frame: pl.DataFrame, split: Split) -> list[pa.Table | None]:
    if split.buckets is None:
        return [frame.to_arrow() if frame.height else None]
    numbers = bucket_numbers(frame[split.buckets.column].to_arrow(), split.buckets.number)
    order = np.argsort(numbers.astype(np.int16), kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(split.buckets.number), side="right")
    starts = np.append(np.count_nonzero(numbers == NOBODY), ends[:-1])
    ordered = frame[order]
    return [ordered[s:e].to_arrow() if e > s else None for s, e in zip(starts.tolist(), ends.tolist(), strict=True)]


def join_bucket(view: ViewScan, bucket: int, *pieces: pa.Table) -> Any:
    """Row numbers and features of the pieces of a spine that fall into one bucket."""
    spine = stacked(pieces)
    keys = spine.select(view.read.view.join_keys)
    found = join_view(view.read.view, view.read.features, spine[TIME], keys, view.rows([bucket], keys), view.replaced)
    return parted(pl.concat([spine.select(PIECE, ROW), found], how="horizontal"), len(pieces), found.columns)


def join_pieces(
    tasks: Tasks, views: Sequence[ViewScan], splits: Sequence[Split], counts: Sequence[Sequence[int]],
    pieces: Sequence[Sequence[Any]],
) -> list[list[list[Any]]]:
    """Starts the joins of all views and buckets.

    Args:
        tasks: where they run.
        views: what is joined.
        splits: how each view's pieces were made.
        counts: rows of each piece of each chunk.
        pieces: references to the pieces of each chunk.

    Returns:
        For each chunk and view, references to tables of row numbers and features.
    """
    outputs: list[list[list[Any]]] = [[[] for _ in views] for _ in pieces]
    for v, (view, split) in enumerate(zip(views, splits, strict=True)):
        shared = tasks.put(view)
        for offset, bucket in enumerate(split.numbers):
            at = split.position + offset
            rows = view.scan.num_rows([bucket])
            chunks = [c for c, of_chunk in enumerate(counts) if of_chunk[at]]
            if not rows and not view.read.view.aggregations:
                continue  # only a window of no rows has a value: the count 0
            for group in _bounded(chunks, [counts[c][at] for c in chunks]):
                asked = [pieces[c][at] for c in group]
                in_parts = view.read.view.aggregations or not view.replaced  # what is carried on must not die
                if rows > TASK_ROWS and in_parts:
                    found = join_in_parts(tasks, shared, view, bucket, -(-rows // TASK_ROWS), asked)
                else:
                    joined = tasks.submit(join_bucket, shared, bucket, *asked, num_returns=len(asked))
                    found = [[joined]] if len(asked) == 1 else [[table] for table in joined]
                for chunk, tables in zip(group, found, strict=True):
                    outputs[chunk][v] += tables
    return outputs


def _bounded(chunks: list[int], rows: list[int]) -> list[list[int]]:
    """Consecutive groups of at most `TASK_ROWS` rows, or of one chunk."""
    groups: list[list[int]] = []
    total = 0
    for chunk, num_rows in zip(chunks, rows, strict=True):
        if not groups or total + num_rows > TASK_ROWS:
            groups.append([])
            total = 0
        groups[-1].append(chunk)
        total += num_rows
    return groups


def gathered(num_rows: int, views: Sequence[ViewScan], outputs: Sequence[Sequence[pa.Table]]) -> Columns:
    """The features of a chunk's rows by `(label, feature)`, null where no task found one."""
    columns: Columns = {}
    for view, tables in zip(views, outputs, strict=True):
        schema = arrow_schema(view.read.features)
        if not tables:
            columns.update({(view.read.label, f.name): pa.nulls(num_rows, f.type) for f in schema})
            continue
        found = pa.concat_tables(tables)
        place = np.full(num_rows, -1)
        place[found[ROW].to_numpy()] = np.arange(found.num_rows)
        index = pa.array(place, mask=place < 0)
        for field in schema:
            columns[(view.read.label, field.name)] = found[field.name].cast(field.type).take(index)
    return columns
