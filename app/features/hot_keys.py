"""A bucket too large for one task, joined in parts of time.

Whatever the reason (a hot key, too few buckets), each part of time is a task of its own: it finds the winners among the
rows that can first be seen in its part, and for each key its last row. The last rows are carried from part to part, the
newest winning, and what is carried into a part beats its own winners where it is newer. Windows need no carrying: each
part reads as far back as they reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from app.features.join_view import join_view
from app.features.point_in_time import EVENT, floor_us, order_of, ranked_rows, winning_rows, within_ttl
from app.features.tasks import Tasks
from app.features.view_scan import Part, ViewScan

SAMPLED_ROWS = 100_000  # of a bucket, for the parts' ends
PIECE, ROW, TIME = "__piece", "__row", "__time"


def decide_parts(sampled_us: np.ndarray, num_parts: int) -> list[Part]:
    """Parts that hold about the same number of rows each. Together they are all of time.

    >>> decide_parts(np.array([1, 2, 3, 4]), 2)
    [Part(after_us=None, until_us=2), Part(after_us=2, until_us=None)]
    """
    shares = np.arange(1, num_parts) / num_parts
    ends = np.unique(np.quantile(sampled_us, shares, method="lower")).tolist() if len(sampled_us) else []
    return [Part(a, b) for a, b in zip([None, *ends], [*ends, None], strict=True)]


def join_in_parts(
    tasks: Tasks, view: Any, scan: ViewScan, bucket: int, num_parts: int, pieces: list[Any]
) -> list[list[Any]]:
    """Joins the pieces of a spine that fall into a large bucket.

    Args:
        tasks: where the parts run.
        view: reference to `scan`.
        scan: the view's files.
        bucket: which.
        num_parts: how many parts of time.
        pieces: references to tables of keys, moments and row numbers.

    Returns:
        For each piece, references to tables of row numbers and features.
    """
    (parts,) = tasks.get([tasks.submit(_parts, view, bucket, num_parts)])
    outputs: list[Any] = []
    carried: Any = None
    for part in parts:
        if scan.read.view.aggregations:
            joined = tasks.submit(_join_windows, view, bucket, part, *pieces, num_returns=len(pieces))
        else:
            found, last = tasks.submit(_winners, view, bucket, part, *pieces, num_returns=2)
            joined = tasks.submit(_settle, view, len(pieces), found, carried, num_returns=len(pieces))
            carried = tasks.submit(_newest, view, carried, last)
        outputs.append([joined] if len(pieces) == 1 else joined)
    return [[of_part[i] for of_part in outputs] for i in range(len(pieces))]


def stacked(pieces: tuple[pa.Table, ...]) -> pl.DataFrame:
    """Pieces of a spine as one frame that knows which piece each row came from."""
    return pl.concat([pl.DataFrame(piece).with_columns(pl.lit(i).alias(PIECE)) for i, piece in enumerate(pieces)])


def parted(frame: pl.DataFrame, num_pieces: int, features: list[str]) -> Any:
    """Row numbers and features of each piece, as a task with that many results returns them."""
    tables = [frame.filter(pl.col(PIECE) == i).select(ROW, *features).to_arrow() for i in range(num_pieces)]
    return tables[0] if num_pieces == 1 else tables


def _parts(view: ViewScan, bucket: int, num_parts: int) -> list[Part]:
    every = max(view.scan.num_rows([bucket]) // SAMPLED_ROWS, 1)
    sampled = view.scan.sample(EVENT, [bucket], every).drop_null().cast(pa.int64()).to_numpy()
    return decide_parts(sampled, num_parts)


def _of_part(spine: pl.DataFrame, part: Part) -> pl.DataFrame:
    us = floor_us(spine[TIME]).to_physical()
    within = us.is_not_null()
    if part.after_us is not None:
        within &= us > part.after_us
    if part.until_us is not None:
        within &= us <= part.until_us
    return spine.filter(within)


def _join_windows(view: ViewScan, bucket: int, part: Part, *pieces: pa.Table) -> Any:
    read, spine = view.read, _of_part(stacked(pieces), part)
    keys = spine.select(read.view.join_keys)
    found = join_view(read.view, read.features, spine[TIME], keys, view.rows([bucket], keys, part))
    return parted(pl.concat([spine, found], how="horizontal"), len(pieces), found.columns)


def _winners(view: ViewScan, bucket: int, part: Part, *pieces: pa.Table) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The part's spine rows with the winner among the part's rows, and the last row of each key."""
    keys = list(view.read.view.join_keys)
    whole = stacked(pieces)
    spine = _of_part(whole, part)
    ranked = ranked_rows(view.rows([bucket], whole.select(keys), part, whole=not view.known_at_once), keys)
    winners = winning_rows(spine[TIME], spine.select(keys), ranked, keys)
    columns = [ranked[name].gather(winners).alias(name) for name in ranked.columns if name not in keys]
    last = ranked.unique(keys, keep="last", maintain_order=True) if keys else ranked.tail(1)
    return spine.with_columns(columns), last


def _newest(view: ViewScan, carried: pl.DataFrame | None, last: pl.DataFrame) -> pl.DataFrame:
    """The newer of two rows of each key."""
    if carried is None:
        return last
    keys = list(view.read.view.join_keys)
    both = pl.concat([carried, last], how="diagonal")
    ordered = both.sort(order_of(both, keys), nulls_last=False, maintain_order=True)
    return ordered.unique(keys, keep="last", maintain_order=True) if keys else ordered.tail(1)


def _settle(view: ViewScan, num_pieces: int, found: pl.DataFrame, carried: pl.DataFrame | None) -> Any:
    """The features of a part's spine rows: of its own winners or of what was carried into it, and none too old."""
    read, names = view.read, [f.name for f in view.read.features]
    keys = list(read.view.join_keys)
    if carried is not None and found.height:
        spine = found.select(PIECE, ROW, TIME, *keys)
        old = spine.join(carried, on=keys, how="left") if keys else spine.join(carried, how="cross")
        both = pl.concat([found, old], how="diagonal")
        ordered = both.sort(order_of(both, keys), nulls_last=False, maintain_order=True)
        found = ordered.unique([PIECE, ROW], keep="last", maintain_order=True)
    if read.view.ttl is not None:
        at = pl.Series(np.arange(found.height), dtype=pl.UInt32)
        fresh = within_ttl(at, found[EVENT], found[TIME], read.view.ttl)
        found = found.filter(fresh.is_not_null())
    return parted(found, num_pieces, names)
