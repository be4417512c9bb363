"""Joins all views to a spine: small ones in this process, large ones by storage partitions. The result is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from app.features.arrow_types import arrow_schema
from app.features.join_here import SpineView, join_here
from app.features.join_view import join_view
from app.features.point_in_time import EVENT
from app.features.spine import RemoteSpine, moments, one_table, spine_keys, stretch_of
from app.features.storage_partitions import TASK_ROWS, Columns, decide_splits, gathered, join_pieces, split_chunk
from app.features.tasks import Tasks
from app.features.view_rows import key_fields
from app.features.view_scan import SpineStretch, ViewScan
from app.foundation.lake import bucket_numbers
from app.foundation.lake.clustered_write import grouped

ONE_TASK_ROWS = 2_000_000  # spine and feature rows of a view together that are joined at once
HERE_ROWS = 20_000_000  # the same of a spine in this process that are joined bucket by bucket; more in tasks
CHUNK_ROWS = 1_000_000  # of a spine
MANY_QUESTIONS = 1_000  # for each bucket of a table; a spine with more is taken to ask for all of them
Finish = Callable[[pa.Table, Columns], pa.Table]


def join_table(
    tasks: Tasks, views: Sequence[ViewScan], spine: pa.Table, times: pl.Series
) -> Columns:
    """The features of a spine that lies in this process; views that are large for it are joined in tasks."""
    columns: Columns = {}
    large: list[ViewScan] = []
    by_bucket: list[SpineView] = []
    small: list[tuple[ViewScan, list[int] | None, pl.DataFrame]] = []

    def keys_of(view: ViewScan) -> pl.DataFrame:
        return spine_keys(spine, key_fields(view.read.view), view.read.key_columns, view.read.view.name)

    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:
        keys_of_views = list(threads.map(keys_of, views))
    for view, keys in zip(views, keys_of_views, strict=True):
        buckets = _asked_buckets(view, keys)
        if spine.num_rows + view.scan.num_rows(buckets) <= ONE_TASK_ROWS:
            small.append((view, buckets, keys))
        elif _fits_by_bucket(view, spine.num_rows):
            by_bucket.append(SpineView(view, keys))
        else:
            large.append(view)

    def joined(view: ViewScan, buckets: list[int] | None, keys: pl.DataFrame) -> Columns:
        read = view.read
        found = join_view(read.view, read.features, times, keys, view.rows(buckets, keys), view.replaced)
        return {(read.label, f.name): found[f.name].to_arrow().cast(f.type) for f in arrow_schema(read.features)}

    with ThreadPoolExecutor(pl.thread_pool_size()) as threads:  # views share nothing, and numpy lets go of the lock
        for found in threads.map(joined, *zip(*small, strict=True)) if small else ():
            columns.update(found)
        columns.update(join_here(threads, by_bucket, times))
    if large:
        columns.update(_join_large(tasks, large, spine))
    return columns


def _asked_buckets(view: ViewScan, keys: pl.DataFrame) -> list[int] | None:
    """The buckets a spine asks for; `None`: all, as one with many questions is taken to do."""
    buckets = view.scan.buckets
    if buckets is None or keys.height > MANY_QUESTIONS * buckets.number:
        return None
    found: list[int] = np.unique(bucket_numbers(keys[buckets.column].to_arrow(), buckets.number)).tolist()
    return found


def _fits_by_bucket(view: ViewScan, num_asked: int) -> bool:
    """Whether the spine and the view's rows are few enough for this process, and a bucket's for a thread."""
    of_buckets = [view.scan.num_rows([bucket]) for bucket in view.scan.files]
    return num_asked + sum(of_buckets) <= HERE_ROWS and max(of_buckets, default=0) <= TASK_ROWS


def _join_large(tasks: Tasks, views: Sequence[ViewScan], spine: pa.Table) -> Columns:
    splits = decide_splits(views)
    needed = list(dict.fromkeys([EVENT, *(c for v in views for c in v.read.key_columns)]))
    slim = spine.select(needed)
    chunks = [slim.slice(i, CHUNK_ROWS) for i in range(0, max(spine.num_rows, 1), CHUNK_ROWS)]
    counts, pieces = [], []
    for chunk in chunks:
        of_chunk, *tables = split_chunk(views, splits, chunk)
        counts.append(of_chunk)
        pieces.append([None if t is None else tasks.put(t) for t in tables])
    outputs = join_pieces(tasks, views, splits, counts, pieces)
    parts = [
        gathered(chunk.num_rows, views, [tasks.get(refs) for refs in of_chunk])
        for chunk, of_chunk in zip(chunks, outputs, strict=True)
    ]
    return {pair: pa.chunked_array([c for p in parts for c in _chunks(p[pair])]) for pair in parts[0]}


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def in_chunks(spine: RemoteSpine) -> list[list[Any]]:
    """Consecutive blocks that make a chunk together."""
    return grouped(spine.blocks, max(min(len(spine.blocks), -(-spine.num_rows // CHUNK_ROWS)), 1))


def join_remote(
    tasks: Tasks, views: Sequence[ViewScan], chunks: Sequence[Sequence[Any]], finish: Finish
) -> tuple[Any, ...]:
    """References to the chunks with their features; `finish` runs on each chunk, where it is."""
    splits = decide_splits(views)
    num_pieces = max((s.position + len(s.numbers) for s in splits), default=0)
    shared = tasks.put(list(views))
    counts, pieces = [], []
    if num_pieces:
        made = [tasks.submit(split_chunk, shared, splits, *chunk, num_returns=1 + num_pieces) for chunk in chunks]
        counts = tasks.get([of_chunk for of_chunk, *_ in made])
        pieces = [of_chunk for _, *of_chunk in made]
    outputs = join_pieces(tasks, views, splits, counts, pieces) if num_pieces else [[] for _ in chunks]
    blocks = []
    for chunk, of_chunk in zip(chunks, outputs, strict=True):
        lengths = [len(chunk), *(len(tables) for tables in of_chunk)]
        blocks.append(tasks.submit(_assemble, shared, finish, lengths, *chunk, *(t for ts in of_chunk for t in ts)))
    tasks.get([tasks.submit(_num_rows, block) for block in blocks])  # an error of any task is raised here, not later
    return tuple(blocks)


def stretch_of_blocks(*blocks: pa.Table) -> SpineStretch | None:
    """First and last moment of a chunk."""
    return stretch_of(moments(one_table(blocks)))


def _num_rows(block: pa.Table) -> int:
    return int(block.num_rows)


def _assemble(views: Sequence[ViewScan], finish: Finish, lengths: Sequence[int], *tables: pa.Table) -> pa.Table:
    ends = np.cumsum([0, *lengths]).tolist()
    blocks, *outputs = (tables[a:b] for a, b in pairwise(ends))
    spine = one_table(blocks)
    return finish(spine, gathered(spine.num_rows, views, outputs))
