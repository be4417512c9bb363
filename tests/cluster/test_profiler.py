"""The profiler as an actor: found by name, fed without waiting, windows by event time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import ray

from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE, collector_name
from app.monitoring.profiler import start_profiler
from app.profiles import summary

START = datetime(2013, 9, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def test_rows_of_many_callers_land_in_their_windows(ray_head: object) -> None:
    started = start_profiler("profiled", START, WEEK)
    found = ray.get_actor(collector_name("profiled"), COLLECTOR_NAMESPACE)
    for day in range(14):
        moments = pa.array([START + timedelta(days=day)] * 3, pa.timestamp("us", "UTC"))
        found.observe_tables.remote([(moments, pa.table({"x": [1.0, None, 3.0], "kind": ["a", "b", "a"]}))])
    again = start_profiler("profiled", START, WEEK)
    profile = ray.get(again.profile.remote(START, START + WEEK))
    columns = summary(profile)
    assert (columns["x"].count, columns["x"].nulls) == (21, 7)
    assert columns["kind"].categories() == {"a": 14.0, "b": 7.0}
    ray.get(started.reset.remote(START + WEEK))
    assert ray.get(started.profile.remote(START + WEEK, START + 2 * WEEK)) is None
    ray.kill(started)
