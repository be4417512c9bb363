"""Answered rows on their way to the profiler: none is lost, each lands in its window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.profiler import ProfileCollector
from app.profiles import summary
from app.serving.profiling import as_tables

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@given(st.lists(st.tuples(st.integers(-3, 3), st.one_of(st.none(), st.floats(-9, 9)), st.booleans()), min_size=1))
def test_rows_reach_the_profile_of_their_window(asked: list[tuple[int, float | None, bool]]) -> None:
    gathered = [
        (START + day * DAY + timedelta(hours=5), {"x": x, "kind": "a"} if both else {"x": x}, 0.5)
        for day, x, both in asked
    ]
    collector = ProfileCollector(START, DAY)
    collector.observe_tables(as_tables(gathered))
    for day in range(-3, 4):
        start = START + day * DAY
        of_day = [(x, both) for at, x, both in asked if at == day]
        profile = collector.profile(start, start + DAY)
        if not of_day:
            assert profile is None
            continue
        assert profile is not None
        columns = summary(profile)
        assert (columns["x"].count, columns["x"].nulls) == (len(of_day), sum(x is None for x, _ in of_day))
        assert columns["score"].count == len(of_day)
        assert ("kind" in columns) == any(both for _, both in of_day)
