"""When a flight really landed: the moment from which its delay may be used. Pure.

Departure + delay + air time is *not* the landing: taxiing comes on top, so that moment lies before the true
arrival on every flight of 2013 (31 minutes on average, up to 235). The arrival's wall clock `arr_time` is
known, but in the destination's own time zone and without a date; the estimate supplies the date.
"""

from __future__ import annotations

import polars as pl

DAY_MINUTES = 1_440
ZONE_OF_UNLISTED_AIRPORTS = "America/Puerto_Rico"  # SJU, BQN, STT, PSE are missing from airports.csv


def clock_minutes(column: str) -> pl.Expr:
    """Minutes since midnight of a wall clock written as the number HHMM (2400 is midnight)."""
    return (pl.col(column) // 100 * 60 + pl.col(column) % 100) % DAY_MINUTES


def local_minutes(moment: str, zone: str) -> pl.Expr:
    """Minutes since midnight that clocks in `zone` show at the UTC column `moment`."""
    local = pl.col(moment).dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute().cast(pl.Int64)


def with_destination_times(flights: pl.DataFrame) -> pl.DataFrame:
    """Adds `sched_minutes` (planned gate to gate) and `landed_timestamp` (null when never landed).

    Args:
        flights: columns `departure_timestamp` (scheduled, UTC), `dep_delay` and `air_time` (minutes),
            `arr_time` and `sched_arr_time` (HHMM at the destination) and `zone` (the destination's).

    Returns:
        The rows grouped by zone. `landed_timestamp` is the moment nearest the estimate at which clocks at the
        destination show `arr_time`. No planned flight is longer than a day.
    """
    estimated = flights.with_columns(
        estimate=pl.col("departure_timestamp") + pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time"))
    )
    zones = estimated.partition_by("zone", as_dict=True, maintain_order=True)
    return pl.concat([_in_zone(rows, str(zone)) for (zone,), rows in zones.items()]).drop("estimate")


def _in_zone(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    planned = clock_minutes("sched_arr_time") - local_minutes("departure_timestamp", zone)
    half = DAY_MINUTES // 2
    beyond = (clock_minutes("arr_time") - local_minutes("estimate", zone) + half) % DAY_MINUTES - half
    return flights.with_columns(
        sched_minutes=planned % DAY_MINUTES,
        landed_timestamp=pl.col("estimate") + pl.duration(minutes=beyond),
    )
