"""Work on all rows of a table by parts of their keys: whatever the table's size, no process holds more than a part.

The files are read in pieces, each by a task that keeps a few numbers of each row and splits them by a hash of the row's
key; then one task for each part gets what the pieces have of it. Small tables are one part, in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import ray

from app.features.tasks import RayTasks, Tasks
from app.foundation.lake import BucketScan

INLINE_ROWS = 1_000_000  # fewer are read in this process, where starting Ray tasks would take longer
PIECE_ROWS = 500_000  # of the files, that one task reads
PART_ROWS = 4_000_000  # whose numbers one task holds
KEY = "key"  # uint64: a hash of the row's key

Numbers = Callable[[pa.Table], pa.Table]
Reduce = Callable[..., Any]


def reduced_by_key(
    scan: BucketScan, columns: list[str], numbers: Numbers, reduce: Reduce, tasks: Tasks | None = None,
    inline_rows: int = INLINE_ROWS, piece_rows: int = PIECE_ROWS, part_rows: int = PART_ROWS,
) -> tuple[Any, ...]:
    """What `reduce` makes of each part of a table: values where the table is small, else references to them.

    Args:
        scan: the table's files.
        columns: which `numbers` needs.
        numbers: of a piece of the table, in its order; a column `KEY` says which part each row belongs to.
        reduce: gets what the pieces have of one part, one table each; the order of the pieces is that of the files.
        tasks: where it runs (default: here when the table is small, else in Ray's workers).
        inline_rows: so many are small.
        piece_rows: of the files, that one task reads.
        part_rows: that one part has.
    """
    num_rows = scan.num_rows()
    if num_rows <= inline_rows:
        return (reduce(_split(scan, columns, numbers, 1)),) if num_rows else ()
    tasks = tasks or RayTasks()
    num_parts = -(-num_rows // part_rows)
    by_piece = [
        tasks.submit(_split, piece, columns, numbers, num_parts, num_returns=num_parts)
        for piece in scan.in_pieces(piece_rows)
    ]
    if num_parts == 1:
        return (tasks.submit(_reduced, reduce, *by_piece),)
    return tuple(tasks.submit(_reduced, reduce, *(parts[i] for parts in by_piece)) for i in range(num_parts))


def hashed_keys(row_keys: pl.Series) -> np.ndarray:
    """A number for each row key; unequal keys of one number are so rare that they may cost something, but not err."""
    return row_keys.hash(seed=0).to_numpy()


def held(part: Any) -> Any:
    """A part's value, wherever it lies; large arrays are looked at in the object store, not copied."""
    return ray.get(part) if isinstance(part, ray.ObjectRef) else part


def _reduced(reduce: Reduce, *pieces: pa.Table) -> Any:
    """A function, which is what tasks take; `reduce` may be any callable."""
    return reduce(*pieces)


def _split(piece: BucketScan, columns: list[str], numbers: Numbers, num_parts: int) -> Any:
    of_rows = numbers(piece.read(columns))
    if num_parts == 1:
        return of_rows
    part = of_rows[KEY].to_numpy() % num_parts
    return [of_rows.filter(pa.array(part == i)) for i in range(num_parts)]
