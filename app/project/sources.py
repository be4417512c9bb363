"""Where rows come from, when they happened and when they could first be known."""

from __future__ import annotations

import polars as pl
import ray.data

from app.project import tables
from app.spec import DatasetFunction, Expectation, Field, Source

NUM_BLOCKS = 4  # of each table, so that Ray Data has something to spread


def read_schedule() -> ray.data.Dataset:
    """The schedule of 2013 as a Ray Dataset."""
    return _dataset(tables.schedule())


def read_landed() -> ray.data.Dataset:
    """Flights that landed as a Ray Dataset."""
    return _dataset(tables.landed())


def read_weather() -> ray.data.Dataset:
    """Hourly weather as a Ray Dataset."""
    return _dataset(tables.weather())


def read_planes() -> ray.data.Dataset:
    """The registry of aircraft as a Ray Dataset."""
    return _dataset(tables.planes())


def _dataset(frame: pl.DataFrame) -> ray.data.Dataset:
    rows_per_block = -(-frame.height // NUM_BLOCKS)
    return ray.data.from_arrow([block.to_arrow() for block in frame.iter_slices(rows_per_block)])


SCHEDULE = Source(
    name="schedule",
    reader=DatasetFunction(read_schedule),
    fields=(
        Field("flight_id", "string", "New York date, carrier, number, origin and destination"),
        Field("carrier", "string"),
        Field("origin", "string"),
        Field("dest", "string"),
        Field("tailnum", "string", "null where no aircraft was ever assigned"),
        Field("hour", "int64", "scheduled departure hour, New York clock"),
        Field("weekday", "int64", "1 is Monday, New York date"),
        Field("distance", "int64", "miles"),
        Field("sched_minutes", "int64", "planned gate to gate"),
        Field("departure_timestamp", "timestamp", "scheduled"),
        Field("prediction_timestamp", "timestamp", "one hour before the scheduled departure hour"),
    ),
    key=("flight_id",),
    event_timestamp="departure_timestamp",
    # Published months ahead; the files don't say when, so: known at the latest when it is asked about.
    available_timestamp="prediction_timestamp",
    expectations=(
        Expectation("flight_id", not_null=True, matches=r"\d{4}-\d\d-\d\d-\w{2}\d+-[A-Z]{3}-[A-Z]{3}"),
        Expectation("origin", one_of=("EWR", "JFK", "LGA")),
        Expectation("distance", not_null=True, minimum=50, maximum=6_000),  # one row is Newark to LaGuardia, 17 miles
        Expectation("sched_minutes", not_null=True, minimum=20, maximum=900),
    ),
    description="Every flight that was to leave New York in 2013.",
)

LANDED = Source(
    name="landed",
    reader=DatasetFunction(read_landed),
    fields=(
        Field("flight_id", "string"),
        Field("carrier", "string"),
        Field("origin", "string"),
        Field("dest", "string"),
        Field("tailnum", "string"),
        Field("dep_delay", "int64", "minutes after the scheduled departure"),
        Field("arr_delay", "int64", "minutes after the scheduled arrival"),
        Field("late", "int64", "1 when arr_delay is 15 or more"),
        Field("departure_timestamp", "timestamp", "scheduled"),
        Field("landed_timestamp", "timestamp", "true arrival, see landing.py"),
    ),
    key=("flight_id",),
    event_timestamp="landed_timestamp",
    available_timestamp="landed_timestamp",
    expectations=(
        Expectation("flight_id", not_null=True),
        Expectation("landed_timestamp", not_null=True),
        Expectation("late", not_null=True, one_of=(0, 1)),
        Expectation("arr_delay", not_null=True, minimum=-180, maximum=2_880),
        Expectation("dep_delay", not_null=True, minimum=-120, maximum=2_880),
    ),
    description="Flights that landed with a known delay. Nothing of it may be used before it landed.",
)

WEATHER = Source(
    name="weather",
    reader=DatasetFunction(read_weather),
    fields=(
        Field("origin", "string"),
        Field("temp", "float64", "°F"),
        Field("dewp", "float64", "°F"),
        Field("humid", "float64", "percent"),
        Field("wind_dir", "float64", "degrees"),
        Field("wind_speed", "float64", "mph"),
        Field("wind_gust", "float64", "mph; null in 50 to 98% of the hours of a week: not a feature"),
        Field("precip", "float64", "inches in the hour"),
        Field("pressure", "float64", "millibars at sea level"),
        Field("visib", "float64", "miles, 10 at most"),
        Field("observed_timestamp", "timestamp"),
    ),
    key=("origin", "observed_timestamp"),
    event_timestamp="observed_timestamp",
    expectations=(
        Expectation("origin", not_null=True, one_of=("EWR", "JFK", "LGA")),
        Expectation("temp", minimum=-60, maximum=130),
        Expectation("humid", minimum=0, maximum=100),
        Expectation("wind_speed", minimum=0, maximum=150),  # one row says 1,048 mph
        Expectation("precip", minimum=0, maximum=10),
        Expectation("pressure", minimum=850, maximum=1_100),
        Expectation("visib", minimum=0, maximum=10),
    ),
    description="Hourly observations at the three airports.",
)

PLANES = Source(
    name="planes",
    reader=DatasetFunction(read_planes),
    fields=(
        Field("tailnum", "string"),
        Field("manufacturer", "string"),
        Field("engines", "int64"),
        Field("seats", "int64"),
        Field("built_year", "int64"),
        Field("registered_timestamp", "timestamp", "the whole registry counts as known when the year began"),
    ),
    key=("tailnum",),
    event_timestamp="registered_timestamp",
    expectations=(
        Expectation("tailnum", not_null=True, matches=r"N[0-9A-Z]{1,5}"),
        Expectation("seats", minimum=1, maximum=900),
        Expectation("engines", minimum=1, maximum=8),
        Expectation("built_year", minimum=1_920, maximum=2_013),
    ),
    description="Aircraft by registration; static.",
)

SOURCES = (SCHEDULE, LANDED, WEATHER, PLANES)
