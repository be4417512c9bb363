"""What the flights project reads from the package."""

from __future__ import annotations

import sys

import polars as pl
import pytest

from app.errors import ProjectError
from app.project import tables


def test_files_are_found_without_importing_the_package() -> None:
    assert tables.package_file("flights.csv.zip").is_file()
    assert tables.PACKAGE not in sys.modules


def test_missing_file_names_itself() -> None:
    with pytest.raises(ProjectError, match=r"trains\.csv"):
        tables.package_file("trains.csv")


def test_schedule_has_every_flight_once() -> None:
    schedule = tables.schedule()
    assert schedule.height == 336_776
    assert schedule["flight_id"].n_unique() == schedule.height


def test_prediction_is_asked_one_hour_before_the_departure_hour() -> None:
    lead_minutes = (
        tables.schedule().select(pl.col("departure_timestamp") - pl.col("prediction_timestamp")).to_series()
    ).dt.total_minutes()
    assert lead_minutes.min() == 60
    assert lead_minutes.max() == 119
    asked = tables.schedule()["prediction_timestamp"]
    assert (asked.dt.minute() == 0).all()
    local_hour = asked.dt.convert_time_zone("America/New_York").dt.hour().cast(pl.Int64)
    assert (local_hour == tables.schedule()["hour"] - 1).all()


def test_landed_has_only_flights_with_an_outcome() -> None:
    landed, flights = tables.landed(), tables.flights()
    left_without = flights.filter(pl.col("dep_time").is_not_null() & pl.col("arr_delay").is_null())
    assert landed.height == 327_346
    assert left_without.height == 1_175
    assert landed.join(left_without, on="flight_id", how="semi").height == 0
    assert landed["late"].null_count() == 0
    assert (landed["late"] == (landed["arr_delay"] >= 15).cast(pl.Int64)).all()


def test_no_flight_lands_before_it_is_asked_about() -> None:
    joined = tables.landed().join(tables.schedule(), on="flight_id")
    assert (joined["landed_timestamp"] > joined["prediction_timestamp"]).all()


def test_share_of_late_flights_moves_with_the_season() -> None:
    """Of the labelled flights. DESIGN §2's .30, .13, .31 are delays over 15 among all scheduled ones."""
    monthly = (
        tables.flights().drop_nulls("late").group_by("month").agg(pl.col("late").mean().round(2)).sort("month")
    )
    shares = dict(monthly.iter_rows())
    assert (shares[7], shares[9], shares[12]) == (0.32, 0.14, 0.34)


@pytest.mark.parametrize("name", ["schedule", "landed", "weather", "planes"])
def test_moments_are_microseconds_utc(name: str) -> None:
    table = getattr(tables, name)()
    moments = [kind for kind in table.schema.values() if isinstance(kind, pl.Datetime)]
    assert moments
    assert all(kind == pl.Datetime("us", "UTC") for kind in moments)
