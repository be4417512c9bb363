"""What is predicted, for which rows, and when the truth is known."""

from __future__ import annotations

from app.project.sources import LANDED, SCHEDULE
from app.spec import Cases, Field, Label

CASES = Cases(
    source=SCHEDULE,
    key="flight_id",
    prediction_timestamp="prediction_timestamp",
    request_fields=(
        Field("carrier", "string"),
        Field("origin", "string"),
        Field("dest", "string"),
        Field("hour", "int64"),
        Field("weekday", "int64"),
        Field("distance", "int64"),
        Field("sched_minutes", "int64"),
    ),
)

# Flights that were cancelled, or left and have no arr_delay, are not in LANDED: they are asked about, never scored.
LATE = Label(source=LANDED, column="late", task="binary")
