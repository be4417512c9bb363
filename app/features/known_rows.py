"""What a source's raw table holds already, so that no ingest writes it again."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa

from app.features.arrow_types import conform
from app.features.content_hash import row_hashes
from app.features.raw_tables import CREATED, pushed_moments
from app.foundation.lake import Lake
from app.spec.features import Source


def known_hashes(lake: Lake, table: str, source: Source) -> np.ndarray:
    """Sorted hashes of the newest row of each identity that the raw table has.

    Where that was pushed, the earlier versions are known too: a source that has not heard of a pushed correction does
    not take it back.
    """
    if not lake.exists(table) or lake.current_snapshot_id(table) is None:
        return np.zeros(0, np.uint64)
    every = pl.DataFrame(lake.read(table))
    rows = newest_rows(every)
    pushed = rows.filter(pl.col(CREATED).is_in(list(pushed_moments(lake.commits(table)))))
    if pushed.height:
        rows = pl.concat([rows, every.join(pushed, on="row_key", how="semi")])
    return np.sort(row_hashes(conform(rows.to_arrow(), source.fields, f"table {table}")))


def unknown_rows(rows: pa.Table, known: np.ndarray, content: pa.Table | None = None) -> pa.Table:
    """Rows whose content (default: all their columns) is not among the known ones."""
    if len(known) == 0 or rows.num_rows == 0:
        return rows
    hashes = row_hashes(rows if content is None else content)
    at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return rows.filter(pa.array(known[at] != hashes))


def pushed_hashes(lake: Lake, table: str, source: Source) -> np.ndarray:
    """Sorted hashes of the pushed rows of a raw table that are the newest of their identity."""
    moments = sorted(pushed_moments(lake.commits(table)))
    if not moments:
        return np.zeros(0, np.uint64)
    since = lake.read(table, row_filter=f"{CREATED} >= '{moments[0].isoformat()}'")
    pushed = newest_rows(pl.DataFrame(since)).filter(pl.col(CREATED).is_in(moments))
    return np.sort(row_hashes(conform(pushed.to_arrow(), source.fields, f"table {table}")))


def newest_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The row written last of each row key."""
    if not rows["row_key"].is_duplicated().any():
        return rows
    return rows.sort(CREATED, maintain_order=True).unique("row_key", keep="last", maintain_order=True)
