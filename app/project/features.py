"""Features of a flight: weather at the origin, what landed lately, and its aircraft.

Histories read landed flights only, each from the moment it landed. Their inputs are whole minutes and 0/1, so sums are
exact in any order. Month and day of the year are left out on purpose: a model that has seen January to June cannot know
what October means.
"""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from app.project.entities import AIRCRAFT, CARRIER, DESTINATION, ORIGIN, ROUTE
from app.project.sources import LANDED, PLANES, WEATHER
from app.spec import Aggregation, FeatureService, FeatureView, Field, OnDemandFeatureView

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def origin_columns(landed: pd.DataFrame) -> pd.DataFrame:
    """Delays named after the place they are a history of, so that views can be joined side by side."""
    return landed.assign(
        origin_dep_delay=landed["dep_delay"], origin_arr_delay=landed["arr_delay"], origin_late=landed["late"]
    )


def carrier_columns(landed: pd.DataFrame) -> pd.DataFrame:
    """As `origin_columns`, for the airline."""
    return landed.assign(carrier_arr_delay=landed["arr_delay"], carrier_late=landed["late"])


def destination_columns(landed: pd.DataFrame) -> pd.DataFrame:
    """As `origin_columns`, for the destination."""
    return landed.assign(dest_arr_delay=landed["arr_delay"], dest_late=landed["late"])


def route_columns(landed: pd.DataFrame) -> pd.DataFrame:
    """As `origin_columns`, for the route."""
    return landed.assign(route_arr_delay=landed["arr_delay"], route_late=landed["late"])


def aircraft_columns(landed: pd.DataFrame) -> pd.DataFrame:
    """As `origin_columns`, for the aircraft."""
    return landed.assign(aircraft_arr_delay=landed["arr_delay"], aircraft_late=landed["late"])


def plane_columns(planes: pd.DataFrame) -> pd.DataFrame:
    """Age in 2013 instead of the year it was built."""
    return planes.assign(plane_age=2013 - planes["built_year"])


def schedule_shape(rows: pd.DataFrame) -> pd.DataFrame:
    """How fast the plan wants the flight to be, and whether delays at the origin are growing."""
    columns = {name: pd.to_numeric(rows[name]).astype("float64") for name in SCHEDULE_SHAPE_INPUTS}
    return pd.DataFrame(
        {
            "planned_mph": columns["distance"] / (columns["sched_minutes"] / 60),
            "origin_late_trend": columns["origin_late_mean_4h"] - columns["origin_late_mean_1d"],
        },
        index=rows.index,
    )


SCHEDULE_SHAPE_INPUTS = ("distance", "sched_minutes", "origin_late_mean_4h", "origin_late_mean_1d")

WEATHER_AT_ORIGIN = FeatureView(
    name="weather_at_origin",
    entities=(ORIGIN,),
    source=WEATHER,
    fields=tuple(
        Field(name, "float64")
        for name in ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    ),
    ttl=6 * HOUR,
    description="The last observation at the airport of departure, six hours old at most.",
)

ORIGIN_HISTORY = FeatureView(
    name="origin_history",
    entities=(ORIGIN,),
    source=LANDED,
    fields=(
        Field("origin_dep_delay", "int64"), Field("origin_arr_delay", "int64"), Field("origin_late", "int64"),
    ),
    aggregations=(
        Aggregation("origin_dep_delay", "mean", 2 * HOUR),
        Aggregation("origin_arr_delay", "mean", 4 * HOUR),
        Aggregation("origin_late", "mean", 4 * HOUR),
        Aggregation("origin_late", "mean", DAY),
        Aggregation("origin_late", "count", 4 * HOUR),
    ),
    transform=origin_columns,
    description="Flights from the same airport that have landed by now.",
)

CARRIER_HISTORY = FeatureView(
    name="carrier_history",
    entities=(CARRIER,),
    source=LANDED,
    fields=(Field("carrier_arr_delay", "int64"), Field("carrier_late", "int64")),
    aggregations=(
        Aggregation("carrier_arr_delay", "mean", 6 * HOUR),
        Aggregation("carrier_late", "mean", DAY),
        Aggregation("carrier_late", "mean", 7 * DAY, hop=2 * HOUR),
    ),
    transform=carrier_columns,
    description="Flights of the same airline that have landed by now.",
)

ROUTE_HISTORY = FeatureView(
    name="route_history",
    entities=(ROUTE,),
    source=LANDED,
    fields=(Field("route_arr_delay", "int64"), Field("route_late", "int64")),
    aggregations=(
        Aggregation("route_arr_delay", "mean", DAY),
        Aggregation("route_late", "mean", 28 * DAY, hop=12 * HOUR),
    ),
    transform=route_columns,
    description="Flights between the same airports that have landed by now.",
)

DESTINATION_HISTORY = FeatureView(
    name="destination_history",
    entities=(DESTINATION,),
    source=LANDED,
    fields=(Field("dest_arr_delay", "int64"), Field("dest_late", "int64")),
    aggregations=(
        Aggregation("dest_arr_delay", "mean", 6 * HOUR),
        Aggregation("dest_late", "mean", 7 * DAY, hop=2 * HOUR),
    ),
    transform=destination_columns,
    description="Flights to the same airport that have landed by now.",
)

AIRCRAFT_HISTORY = FeatureView(
    name="aircraft_history",
    entities=(AIRCRAFT,),
    source=LANDED,
    fields=(Field("aircraft_arr_delay", "int64"), Field("aircraft_late", "int64")),
    aggregations=(
        Aggregation("aircraft_arr_delay", "last", DAY),
        Aggregation("aircraft_arr_delay", "mean", DAY),
        Aggregation("aircraft_arr_delay", "count", DAY),
        Aggregation("aircraft_late", "mean", 28 * DAY, hop=12 * HOUR),
    ),
    transform=aircraft_columns,
    description="What this very aircraft did lately; it brings its delay along.",
)

PLANE = FeatureView(
    name="plane",
    entities=(AIRCRAFT,),
    source=PLANES,
    fields=(Field("plane_age", "int64"), Field("seats", "int64"), Field("manufacturer", "string")),
    transform=plane_columns,
    description="Attributes of the aircraft.",
)

SCHEDULE_SHAPE = OnDemandFeatureView(
    name="schedule_shape",
    inputs=SCHEDULE_SHAPE_INPUTS,
    fields=(Field("planned_mph", "float64"), Field("origin_late_trend", "float64")),
    function=schedule_shape,
    description="Computed when asked, from the request and the joined features.",
)

VIEWS = (
    WEATHER_AT_ORIGIN, ORIGIN_HISTORY, CARRIER_HISTORY, ROUTE_HISTORY, DESTINATION_HISTORY,
    AIRCRAFT_HISTORY, PLANE,
)

ARRIVAL_FEATURES = FeatureService(
    name="arrival_features",
    features=tuple(f"{view.name}:*" for view in (*VIEWS, SCHEDULE_SHAPE)),
    description="What the arrival model reads beside the request.",
)
