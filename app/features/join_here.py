"""Joins views to a spine in this process, bucket by bucket: of a table a thread holds no more than a bucket.

What storage partitions do in Ray's workers (`storage_partitions.py`), without moving the spine or its features.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np
import polars as pl

from app.features.arrow_types import arrow_schema
from app.features.join_view import join_view
from app.features.storage_partitions import Columns
from app.features.view_scan import ViewScan
from app.foundation.lake import NOBODY, bucket_numbers

Places = dict[int, np.ndarray]  # by bucket, the positions of the spine's rows that fall into it


@dataclass(frozen=True)
class SpineView:
    """A view and what of the spine it is joined to. `keys`: the view's join keys for each row of the spine."""

    view: ViewScan
    keys: pl.DataFrame

    def places(self, num_rows: int) -> Places:
        """Of a spine of so many rows; those with a null key are nobody's: they have no features."""
        buckets = self.view.scan.buckets
        if buckets is None:
            return {NOBODY: np.arange(num_rows)}
        numbers = bucket_numbers(self.keys[buckets.column].to_arrow(), buckets.number).astype(np.int16)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers + 1, minlength=buckets.number + 1))
        return {b: order[ends[b] : ends[b + 1]] for b in range(buckets.number) if ends[b] < ends[b + 1]}


def join_here(threads: Executor, asked: Sequence[SpineView], times: pl.Series) -> Columns:
    """The features of each row of the spine.

    Args:
        threads: where the buckets are joined.
        asked: the views; all but those without entities are bucketed.
        times: the spine's moments.
    """
    started = []
    for spine, places in zip(asked, threads.map(lambda spine: spine.places(len(times)), asked), strict=True):
        largest_first = sorted(places.items(), key=lambda place: -len(place[1]))
        jobs = [threads.submit(_joined, spine, bucket, at, times) for bucket, at in largest_first]
        started.append((spine.view, [at for _, at in largest_first], jobs))
    columns: Columns = {}
    for view, places_of_jobs, jobs in started:
        columns.update(_in_place(threads, view, places_of_jobs, jobs, len(times)))
    return columns


def _joined(spine: SpineView, bucket: int, at: np.ndarray, times: pl.Series) -> pl.DataFrame:
    view, read = spine.view, spine.view.read
    index = pl.Series(at, dtype=pl.UInt32)
    keys = spine.keys[index] if spine.keys.width else spine.keys
    buckets = None if view.scan.buckets is None else [bucket]
    return join_view(read.view, read.features, times.gather(index), keys, view.rows(buckets, keys), view.replaced)


def _in_place(
    threads: Executor, view: ViewScan, places: Sequence[np.ndarray], jobs: Sequence[Future[pl.DataFrame]], num_rows: int
) -> Columns:
    """The features of a view's buckets in the order of the spine, null for nobody's rows."""
    schema = arrow_schema(view.read.features)
    found = [job.result() for job in jobs]
    if not found:
        empty = {f.name: pl.repeat(None, num_rows, eager=True).to_arrow().cast(f.type) for f in schema}
        return {(view.read.label, name): column for name, column in empty.items()}
    index = np.full(num_rows, -1)
    index[np.concatenate(places)] = np.arange(sum(map(len, places)))
    wanted = pl.Series(index)
    wanted = (wanted if (index >= 0).all() else wanted.set(wanted < 0, None)).cast(pl.UInt32)
    whole = pl.concat(found)
    ordered = threads.map(lambda f: whole[f.name].gather(wanted).to_arrow().cast(f.type), schema)
    return {(view.read.label, f.name): column for f, column in zip(schema, ordered, strict=True)}
