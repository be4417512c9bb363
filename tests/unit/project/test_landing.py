"""The facts of DESIGN §2 about landing times, on the real data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from app.project import tables
from app.project.landing import ZONE_OF_UNLISTED_AIRPORTS, clock_minutes, with_destination_times


@pytest.fixture(scope="module")
def landed() -> pl.DataFrame:
    return tables.flights().filter(pl.col("arr_delay").is_not_null())


def test_landing_agrees_with_the_schedule_plus_the_delay(landed: pl.DataFrame) -> None:
    """An independent way to the same moment: planned arrival plus arr_delay. It agrees on every flight."""
    planned = landed["departure_timestamp"] + landed.select(
        pl.duration(minutes=pl.col("sched_minutes") + pl.col("arr_delay"))
    ).to_series()
    assert landed.height == 327_346
    assert landed["landed_timestamp"].null_count() == 0
    assert (planned == landed["landed_timestamp"]).all()


def test_destination_clocks_show_arr_time(landed: pl.DataFrame) -> None:
    wrong = 0
    for (zone,), rows in landed.group_by("zone"):
        local = rows["landed_timestamp"].dt.convert_time_zone(str(zone))
        shown = local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute().cast(pl.Int64)
        wrong += int((shown != rows.select(clock_minutes("arr_time")).to_series()).sum())
    assert wrong == 1  # in the night of 10 March somebody wrote 2:03, which New York's clocks skipped


def test_the_short_cut_leaks_on_every_flight(landed: pl.DataFrame) -> None:
    estimate = landed["departure_timestamp"] + landed.select(
        pl.duration(minutes=pl.col("dep_delay") + pl.col("air_time"))
    ).to_series()
    taxiing = (landed["landed_timestamp"] - estimate).dt.total_minutes()
    assert (estimate < landed["landed_timestamp"]).all()
    assert taxiing.min() == 5
    assert round(taxiing.mean()) == 31  # type: ignore[arg-type]
    assert taxiing.max() == 235
    listed = landed.filter(pl.col("zone") != ZONE_OF_UNLISTED_AIRPORTS)
    assert 319_000 < listed.height < 320_000


@pytest.mark.parametrize(
    ("zone", "departure", "delay", "air", "arrival", "expected"),
    [
        ("America/New_York", datetime(2013, 1, 1, 10, 15, tzinfo=UTC), 2, 60, 633, "2013-01-01T11:33"),
        ("America/Chicago", datetime(2013, 1, 1, 10, 15, tzinfo=UTC), 2, 227, 830, "2013-01-01T14:30"),
        ("America/New_York", datetime(2013, 7, 2, 1, 0, tzinfo=UTC), 90, 60, 2400, "2013-07-02T04:00"),
        ("America/New_York", datetime(2013, 7, 2, 2, 0, tzinfo=UTC), 60, 70, 25, "2013-07-02T04:25"),
        ("America/Puerto_Rico", datetime(2013, 7, 1, 12, 0, tzinfo=UTC), 0, 190, 1130, "2013-07-01T15:30"),
        ("Pacific/Honolulu", datetime(2013, 1, 1, 14, 0, tzinfo=UTC), 600, 640, 100, "2013-01-02T11:00"),
    ],
)
def test_landing_by_hand(
    zone: str, departure: datetime, delay: int, air: int, arrival: int, expected: str
) -> None:
    rows = pl.DataFrame(
        {"departure_timestamp": [departure], "dep_delay": [delay], "air_time": [air], "arr_time": [arrival],
         "sched_arr_time": [arrival], "zone": [zone]},
        schema_overrides={"departure_timestamp": pl.Datetime("us", "UTC")},
    )
    landed = with_destination_times(rows)["landed_timestamp"][0]
    assert landed == datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert landed > departure + timedelta(minutes=delay + air)


def test_a_flight_without_arrival_never_landed() -> None:
    rows = pl.DataFrame(
        {"departure_timestamp": [datetime(2013, 1, 1, 10, tzinfo=UTC)], "dep_delay": [None], "air_time": [None],
         "arr_time": [None], "sched_arr_time": [900], "zone": ["America/New_York"]},
        schema_overrides={
            "departure_timestamp": pl.Datetime("us", "UTC"), "dep_delay": pl.Int64, "air_time": pl.Int64,
            "arr_time": pl.Int64,
        },
    )
    row = with_destination_times(rows)
    assert row["landed_timestamp"][0] is None
    assert row["sched_minutes"][0] == 240
