"""The point-in-time join: for each row of a spine, the feature row that was the newest known at that moment. Pure.

For each spine row with moment `t` and each key, candidates have `event <= t`, `available <= t` and, with a TTL,
`event >= t - ttl`. The greatest event wins, then the greatest created, then the order of `TIE_BREAKERS` and of the
values. A winner's null stays null; without a candidate every feature is null. The output has exactly the spine's rows
in their order.

A row is a candidate from `visible = max(event, available)` on, so the winner without a TTL is the running maximum of
the rows' rank in order of `visible`; and since the winner has the greatest event, a winner that is too old for the TTL
means that all candidates are.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

EVENT, AVAILABLE, CREATED = "event_timestamp", "available_timestamp", "created_timestamp"
TIE_BREAKERS = (CREATED, "source_created_timestamp", "row_key")
_RANK, _VISIBLE, _WINNER, _TIME, _ROW = "__rank", "__visible", "__winner", "__time", "__row"


def as_of_join(
    times: pl.Series,
    spine_keys: pl.DataFrame,
    rows: pl.DataFrame,
    keys: Sequence[str],
    features: Sequence[str],
    ttl: timedelta | None = None,
) -> pl.DataFrame:
    """Features of the newest known row for each spine row.

    Args:
        times: the moment of each spine row, any unit, UTC.
        spine_keys: the key columns of the spine, same length, same types as in `rows`.
        rows: feature rows with `keys`, `features`, event, available and created timestamps in microseconds.
        keys: names of the key columns.
        features: names of the columns wanted.
        ttl: how old the winner's event may be, inclusive.

    Returns:
        The columns `features`, one row for each spine row, in its order.
    """
    ranked = _ranked(rows, keys)
    steps = (
        ranked.select(*keys, pl.max_horizontal(EVENT, AVAILABLE).alias(_VISIBLE), _RANK)
        .drop_nulls()
        .sort(_VISIBLE, maintain_order=True)
        .with_columns(pl.col(_RANK).cum_max().over(list(keys)).alias(_WINNER))
    )
    spine = spine_keys.select(keys).with_columns(floor_us(times).alias(_TIME)).with_row_index(_ROW)
    asked = spine.drop_nulls().sort(_TIME, maintain_order=True)
    won = asked.join_asof(
        steps.select(*keys, _VISIBLE, _WINNER),
        left_on=_TIME, right_on=_VISIBLE, by=list(keys), strategy="backward", check_sortedness=False,
    ).select(_ROW, _WINNER)
    winners = spine.select(_ROW).join(won, on=_ROW, how="left", maintain_order="left")[_WINNER]
    if ttl is not None:
        winners = _within_ttl(winners, ranked[EVENT], times, ttl)
    return ranked.select([ranked[name].gather(winners).alias(name) for name in features])


def floor_us(times: pl.Series) -> pl.Series:
    """Moments in microseconds; `event <= t` holds for a stored event iff it holds for the floored `t`."""
    return _to_us(times, round_up=False)


def _to_us(times: pl.Series, *, round_up: bool) -> pl.Series:
    dtype = times.dtype
    assert isinstance(dtype, pl.Datetime), f"moments expected, found {dtype}"
    if dtype.time_unit != "ns":
        return times.cast(pl.Datetime("us", "UTC"))
    nanoseconds = times.to_physical()
    whole = (nanoseconds + 999) // 1000 if round_up else nanoseconds // 1000
    return whole.cast(pl.Datetime("us", "UTC"))


def _ranked(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Rows in the order in which a later one beats an earlier one, with that rank."""
    first = [EVENT, *(c for c in TIE_BREAKERS if c in rows.columns)]
    rest = [c for c in rows.columns if c not in first and c not in keys]
    return rows.sort([*first, *rest], nulls_last=False, maintain_order=True).with_row_index(_RANK)


def _within_ttl(winners: pl.Series, events: pl.Series, times: pl.Series, ttl: timedelta) -> pl.Series:
    won_at = events.gather(winners)
    fresh = won_at + ttl >= _to_us(times, round_up=True)
    return pl.select(pl.when(fresh.fill_null(False)).then(winners)).to_series()
