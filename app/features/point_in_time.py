"""The point-in-time join: for each row of a spine, the feature row that was the newest known at that moment. Pure.

For each spine row with moment `t` and each key, candidates have `event <= t`, `available <= t` and, with a TTL,
`event >= t - ttl`. The greatest event wins, then the greatest created, then the order of `TIE_BREAKERS` and of the
values. A winner's null stays null; without a candidate every feature is null. The output has exactly the spine's rows
in their order. Without keys every spine row has the same candidates.

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
LONGEST_TTL = timedelta(days=3_700_000)  # longer than all time a timestamp can hold, short enough to be added to one
RANK, VISIBLE, WINNER, DIED = "__rank", "__visible", "__winner", "__died"
_TIME, _ROW = "__time", "__row"


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
        rows: feature rows with `keys`, `features` and event timestamps in microseconds. Without available timestamps
            each was available when it happened. Created timestamps and further columns are needed where `has_ties`.
        keys: names of the key columns, none for a view without entities.
        features: names of the columns wanted.
        ttl: how old the winner's event may be, inclusive.

    Returns:
        The columns `features`, one row for each spine row, in its order.
    """
    ranked = ranked_rows(rows, keys)
    return picked(ranked, winning_rows(times, spine_keys, ranked, keys), times, features, ttl)


def picked(
    ranked: pl.DataFrame, winners: pl.Series, times: pl.Series, features: Sequence[str], ttl: timedelta | None
) -> pl.DataFrame:
    """The features of the winners, of none that is too old."""
    if ttl is not None:
        winners = within_ttl(winners, ranked[EVENT].gather(winners), times, ttl)
    return ranked.select([ranked[name].gather(winners).alias(name) for name in features])


def ranked_rows(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Rows in such an order that of two of one key the later one beats the earlier one. Rows of nobody are left out."""
    needed = [c for c in (*keys, EVENT, AVAILABLE) if c in rows.columns and rows[c].null_count()]
    ordered = by_event(rows.drop_nulls(needed) if needed else rows)
    if CREATED not in rows.columns:
        return ordered
    tied = _tied(ordered, keys)
    if not tied.any():
        return ordered
    settled = ordered.filter(tied).sort(order_of(ordered, keys), nulls_last=False, maintain_order=True)
    return pl.concat([ordered.filter(~tied), settled]).sort(EVENT, maintain_order=True)


def has_ties(rows: pl.DataFrame, keys: Sequence[str]) -> bool:
    """Whether two rows of one key have one event timestamp, so that their further columns decide."""
    return bool(_tied(by_event(rows), keys).any())


def by_event(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the order of their events; those of a file of ours are in it already."""
    return rows if rows[EVENT].is_sorted() else rows.sort(EVENT)


def _tied(ordered: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Which rows have an equal of key and event."""
    event = ordered[EVENT]
    near = ((event == event.shift(1)) | (event == event.shift(-1))).fill_null(False)
    if not near.any():
        return near
    twice = ordered.filter(near).select(*keys, EVENT).is_duplicated()
    return near.scatter(near.arg_true(), twice)


def order_of(rows: pl.DataFrame, keys: Sequence[str]) -> list[pl.Expr]:
    """What decides between rows of one key, the most important first: times, identity, then the values themselves."""
    first = [EVENT, *(c for c in TIE_BREAKERS if c in rows.columns)]
    rest = [c for c in rows.columns if c not in first and c not in keys and not c.startswith("__")]
    return [comparable(c, rows.schema[c]) for c in [*first, *rest]]


def comparable(column: str, dtype: pl.DataType) -> pl.Expr:
    """Lists are compared as texts: any order will do, as long as it is always the same and unequal lists differ."""
    if isinstance(dtype, pl.List):
        element = pl.format("{}:{}", pl.element().str.len_bytes(), pl.element()).fill_null("-")
        return pl.col(column).cast(pl.List(pl.String)).list.eval(element).list.join("")
    return pl.col(column)


def winning_rows(times: pl.Series, spine_keys: pl.DataFrame, ranked: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Position in `ranked` of the winner for each spine row whatever its age, null without a candidate."""
    steps = steps_of(ranked.with_row_index(RANK), keys)
    return winners_of(floor_us(times), spine_keys, steps, keys)


def steps_of(numbered: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """From which moment on which row wins, moments increasing; of rows that are ranked and numbered so."""
    if AVAILABLE in numbered.columns and (numbered[AVAILABLE] > numbered[EVENT]).any():
        visible = pl.max_horizontal(EVENT, AVAILABLE).alias(VISIBLE)
        winner = pl.col(RANK).cum_max()
        return (
            numbered.select(*keys, RANK, visible)
            .sort(VISIBLE, maintain_order=True)
            .select(*keys, VISIBLE, (winner.over(list(keys)) if keys else winner).alias(WINNER))
        )
    return numbered.select(*keys, pl.col(EVENT).alias(VISIBLE), pl.col(RANK).alias(WINNER))


def winners_of(times_us: pl.Series, spine_keys: pl.DataFrame, steps: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """The last step of each spine row's key by its moment: the winner's number, null without one."""
    spine = pl.DataFrame([times_us.alias(_TIME), *(spine_keys[key] for key in keys)]).with_row_index(_ROW)
    asked = spine.drop_nulls().sort(_TIME, maintain_order=True)
    won = asked.join_asof(
        steps, left_on=_TIME, right_on=VISIBLE, by=list(keys) or None, strategy="backward", check_sortedness=False
    )
    winners = pl.repeat(None, len(times_us), dtype=pl.UInt32, eager=True)
    return winners.scatter(won[_ROW], won[WINNER])


def within_ttl(winners: pl.Series, events: pl.Series, times: pl.Series, ttl: timedelta) -> pl.Series:
    """The winners whose events are young enough for the moments asked, null for the others."""
    fresh = events + min(ttl, LONGEST_TTL) >= _to_us(times, round_up=True)
    return pl.select(pl.when(fresh.fill_null(False)).then(winners)).to_series()


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
