"""The feature view of the join benchmark, its rows and its spines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from app.spec import (
    Cases,
    CsvFiles,
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

START = datetime(2013, 1, 1, tzinfo=UTC)
YEAR_US = 365 * 86_400 * 10**6
START_US = int(START.timestamp()) * 10**6
MOMENT = pa.timestamp("us", tz="UTC")
DAY = timedelta(days=1)
_SOURCE = Source(
    "events", CsvFiles("unused"), (Field("k", "int64"), Field("v", "float64"), Field("at", "timestamp")),
    key=("k", "at"), event_timestamp="at",
)
_CASES = Source(
    "cases", CsvFiles("unused"), (Field("case", "string"), Field("at", "timestamp"), Field("y", "int64")),
    key=("case",), event_timestamp="at",
)
VIEW = FeatureView("readings", (Entity("thing", ("k",)),), _SOURCE, (Field("v", "float64"),), ttl=400 * DAY)
_MODEL = SklearnModel("unused", FeatureService("all", ("readings:v",)), "sklearn.linear_model:LogisticRegression")


def project(num_buckets: int) -> Project:
    """A project whose one view is kept in so many buckets."""
    return Project(
        name="bench_pit", sources=(_SOURCE, _CASES), views=(replace(VIEW, num_buckets=num_buckets),),
        cases=Cases(_CASES, "case", "at"), label=Label(_CASES, "y"), model=_MODEL, baseline=_MODEL,
        timeline=Timeline(START, START + DAY, START + 2 * DAY, START + 3 * DAY),
    )


def feature_rows(number: int, num_keys: int, seed: int) -> pa.Table:
    """Rows of the view's table: a year of readings at random moments, in their order, written at one moment."""
    random = np.random.default_rng(seed)
    moments = pa.array(np.sort(random.integers(0, YEAR_US, number)) + START_US, MOMENT)
    names = pl.int_range(seed * number, (seed + 1) * number, eager=True).cast(pl.String).to_arrow().cast(pa.string())
    written = pa.repeat(pa.scalar(START + timedelta(days=500, seconds=seed), MOMENT), number)
    return pa.table(
        {
            "k": random.integers(0, num_keys, number), "v": random.normal(size=number), "event_timestamp": moments,
            "available_timestamp": moments, "row_key": names, "source_created_timestamp": written,
            "created_timestamp": written,
        }
    )


def spine_rows(number: int, num_keys: int, seed: int = 10_000) -> pa.Table:
    """Questions at random moments; one key in a hundred is unknown."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "k": random.integers(0, num_keys + num_keys // 100, number),
            "event_timestamp": pa.array(random.integers(0, YEAR_US, number) + START_US, MOMENT),
        }
    )
