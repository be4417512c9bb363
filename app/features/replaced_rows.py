"""Rows that a later version replaces: who counts at which moment. Pure.

The versions of a row have one identity, its entity and row key. At a moment the version written last of those available
by then is the row; the others do not count, wherever their event times lie. A version without an event time is a
tombstone: from its available time on the row is none of the view's.

So a row lives from `visible = max(event, available)` until the first moment at which a version written after it is
available. Winners of an entity whose rows all live for ever are a running maximum; others take a sweep through time.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import polars as pl

from app.features.point_in_time import (
    AVAILABLE,
    CREATED,
    DIED,
    EVENT,
    RANK,
    VISIBLE,
    WINNER,
    floor_us,
    order_of,
    ranked_rows,
    steps_of,
    winners_of,
)

VERSION_ORDER = ("source_created_timestamp", CREATED, AVAILABLE, EVENT)


def counting_versions(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The versions, tombstones included, that are replaced at no moment before they are available.

    `DIED`: the moment from which a version written later is the row; null: never.
    """
    versions = rows.filter(pl.col(AVAILABLE).is_not_null())
    versions = versions.sort([pl.col(VERSION_ORDER), *order_of(rows, keys)], nulls_last=False, maintain_order=True)
    later = pl.col(AVAILABLE).cum_min(reverse=True).shift(-1).over([*keys, "row_key"])
    return versions.with_columns(later.alias(DIED)).filter(pl.col(DIED).is_null() | (pl.col(DIED) > pl.col(AVAILABLE)))


def living_rows(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The rows that count at some moment, with the moment `DIED` from which they no longer do (null: never)."""
    visible = pl.max_horizontal(EVENT, AVAILABLE)
    return counting_versions(rows, keys).filter(
        pl.col(EVENT).is_not_null() & (pl.col(DIED).is_null() | (pl.col(DIED) > visible))
    )


def living_winners(
    times: pl.Series, spine_keys: pl.DataFrame, rows: pl.DataFrame, keys: Sequence[str]
) -> tuple[pl.DataFrame, pl.Series]:
    """Ranked rows, and for each spine row the position of its winner, null without one; see `as_of_join`."""
    ranked = ranked_rows(living_rows(rows, keys), keys)
    numbered = ranked.with_row_index(RANK)
    mortal = numbered.filter(pl.col(DIED).is_not_null())
    if keys:
        owners = mortal.select(keys).unique()
        immortal = numbered.join(owners, on=keys, how="anti", maintain_order="left")
        swept = _swept(numbered.join(owners, on=keys, how="semi", maintain_order="left"), keys)
    else:
        immortal, swept = (numbered, numbered.clear()) if mortal.is_empty() else (numbered.clear(), numbered)
        swept = _swept(swept, keys)
    steps = pl.concat([steps_of(immortal, keys), swept]).sort(VISIBLE, maintain_order=True)
    return ranked, winners_of(floor_us(times), spine_keys, steps, keys)


def _swept(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Steps of entities some of whose rows die: from each moment on the best row alive, null when there is none."""
    lives = rows.select(
        RANK, pl.max_horizontal(EVENT, AVAILABLE).alias(VISIBLE).dt.epoch("us"), pl.col(DIED).dt.epoch("us")
    )
    groups = lives.with_columns(rows[key] for key in keys).group_by(list(keys), maintain_order=True) if keys else [
        ((), lives)
    ]
    found: list[tuple[int, int, int | None]] = []  # a row of the entity, moment, winner
    for _, group in groups:
        ranks, visible, died = (group[c].to_list() for c in (RANK, VISIBLE, DIED))
        found += [(ranks[0], *step) for step in best_alive(ranks, visible, died)]
    owner, moments, winners = zip(*found, strict=True) if found else ((), (), ())
    of = rows.select(RANK, *keys).unique(RANK).sort(RANK)
    at = pl.DataFrame({RANK: pl.Series(owner, dtype=pl.UInt32)}).join(of, on=RANK, how="left", maintain_order="left")
    return at.select(
        *keys,
        pl.Series(VISIBLE, moments, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
        pl.Series(WINNER, winners, dtype=pl.UInt32),
    )


def best_alive(
    ranks: Sequence[int], visible: Sequence[int], died: Sequence[int | None]
) -> list[tuple[int, int | None]]:
    """The greatest rank alive from each moment at which that changes.

    >>> best_alive([0, 1], [1, 2], [None, 5])
    [(1, 0), (2, 1), (5, 0)]
    >>> best_alive([0], [1], [4])
    [(1, 0), (4, None)]
    """
    births = sorted(zip(visible, ranks, died, strict=True), key=lambda birth: birth[0])
    moments = sorted({*visible, *(end for end in died if end is not None)})
    alive: list[tuple[int, int | None]] = []  # a heap of negative rank and end
    steps: list[tuple[int, int | None]] = []
    born = 0
    for moment in moments:
        while born < len(births) and births[born][0] <= moment:
            heapq.heappush(alive, (-births[born][1], births[born][2]))
            born += 1
        while alive and alive[0][1] is not None and alive[0][1] <= moment:
            heapq.heappop(alive)
        winner = -alive[0][0] if alive else None
        if not steps or steps[-1][1] != winner:
            steps.append((moment, winner))
    return steps
