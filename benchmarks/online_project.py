"""Project of the online benchmark: a shop's customers, 50 features in 5 views, three with windows, two with values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from app.spec import (
    Aggregation,
    Cases,
    DatasetFunction,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    Label,
    Project,
    SklearnModel,
    Source,
    Timeline,
)

NOW = datetime(2026, 3, 11, 12, 20, tzinfo=UTC)
HISTORY = timedelta(days=10)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CUSTOMER = Entity("customer", ("customer_id",))
WINDOWED = {"orders": "amount", "visits": "seconds", "support": "wait_s"}
VALUED = ("profile", "account")


def _never() -> None:
    raise AssertionError("the benchmark pushes its rows; it reads no source")


def _events(name: str, column: str) -> Source:
    fields = (
        Field("event_id", "int64"), Field("customer_id", "int64"), Field(column, "float64"), Field("at", "timestamp")
    )
    return Source(name, DatasetFunction(_never), fields, key=("event_id",), event_timestamp="at")


def _values(name: str) -> Source:
    fields = (Field("customer_id", "int64"), *_value_fields(name), Field("at", "timestamp"))
    return Source(name, DatasetFunction(_never), fields, key=("customer_id", "at"), event_timestamp="at")


def _value_fields(name: str) -> tuple[Field, ...]:
    return (
        *(Field(f"{name}_amount_{i}", "float64") for i in range(5)),
        *(Field(f"{name}_count_{i}", "int64") for i in range(3)),
        *(Field(f"{name}_text_{i}", "string") for i in range(2)),
    )


def _windows(column: str) -> tuple[Aggregation, ...]:
    """Ten features: a day in tiles of an hour, a week in tiles of two."""
    short = [Aggregation(column, function, DAY, HOUR) for function in ("count", "sum", "mean", "max", "last")]
    long = [Aggregation(column, function, 7 * DAY, 2 * HOUR) for function in ("count", "mean", "std", "min", "max")]
    return (*short, *long)


SOURCES = {name: _events(name, column) for name, column in WINDOWED.items()} | {name: _values(name) for name in VALUED}
VIEWS = tuple(
    FeatureView(
        f"{name}_view", (CUSTOMER,), source,
        (Field(WINDOWED[name], "float64"),) if name in WINDOWED else _value_fields(name),
        aggregations=_windows(WINDOWED[name]) if name in WINDOWED else (),
        ttl=None if name in WINDOWED else 365 * DAY,
    )
    for name, source in SOURCES.items()
)
SERVICE = FeatureService("all", tuple(f"{view.name}:*" for view in VIEWS))
_CASES = Source(
    "cases", DatasetFunction(_never),
    (Field("case_id", "string"), Field("customer_id", "int64"), Field("at", "timestamp"), Field("label", "int64")),
    key=("case_id",), event_timestamp="at",
)
_MODEL = SklearnModel("unused", SERVICE, "sklearn.linear_model:LogisticRegression")
PROJECT = Project(
    name="bench_online", sources=(*SOURCES.values(), _CASES), views=VIEWS, cases=Cases(_CASES, "case_id", "at"),
    label=Label(_CASES, "label"), model=_MODEL, baseline=_MODEL,
    timeline=Timeline(NOW - 4 * DAY, NOW - 3 * DAY, NOW - 2 * DAY, NOW),
)


def rows(name: str, num_customers: int, events_per_customer: int) -> pd.DataFrame:
    """Rows of a source: events spread over ten days, or one row of values a customer."""
    random = np.random.default_rng(list(SOURCES).index(name))
    if name in WINDOWED:
        num_rows = num_customers * events_per_customer
        since = random.integers(0, HISTORY // timedelta(microseconds=1), num_rows)
        return pd.DataFrame(
            {
                "event_id": np.arange(num_rows), "customer_id": random.integers(0, num_customers, num_rows),
                WINDOWED[name]: random.lognormal(3, 1, num_rows).round(2),
                "at": pd.Timestamp(NOW) - pd.to_timedelta(np.sort(since)[::-1], unit="us"),
            }
        )
    columns = {"customer_id": np.arange(num_customers), "at": [NOW - DAY] * num_customers}
    for field in _value_fields(name):
        if field.dtype == "string":
            columns[field.name] = random.choice(["gold", "silver", "bronze", "none"], num_customers)
        else:
            drawn = random.lognormal(3, 1, num_customers)
            columns[field.name] = drawn.round(2) if field.dtype == "float64" else drawn.astype(np.int64)
    return pd.DataFrame(columns)
