"""What a backfill still has to do, against a moment-by-moment model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.features.coverage import (
    COVERAGE,
    Covered,
    Stretch,
    coverage_json,
    coverage_of,
    cut,
    decide_backfill,
    merged_coverage,
)

ORIGIN = datetime(2013, 1, 1, tzinfo=UTC)
NUM_HOURS = 12


def at(hour: int) -> datetime:
    return ORIGIN + timedelta(hours=hour)


ranges = st.tuples(st.integers(0, NUM_HOURS), st.integers(0, NUM_HOURS)).filter(lambda r: r[0] < r[1])
covered_stretches = st.lists(
    st.builds(lambda r, s: Covered(at(r[0]), at(r[1]), s), ranges, st.integers(1, 4)), max_size=6
)


def newest_by_hour(covered: list[Covered]) -> list[int | None]:
    """The model: for the hour `(h, h + 1]` the newest commit that covers it."""
    return [
        max((c.sequence for c in covered if c.start <= at(h) < c.end), default=None) for h in range(NUM_HOURS)
    ]


@given(covered_stretches)
def test_merging_keeps_what_each_moment_holds(covered: list[Covered]) -> None:
    once = merged_coverage(covered)
    assert newest_by_hour(once) == newest_by_hour(covered)
    assert all(a.end <= b.start for a, b in pairwise(once))
    assert all(a.end < b.start or a.sequence != b.sequence for a, b in pairwise(once))


@given(covered_stretches, ranges, st.integers(1, 4))
def test_work_is_what_is_missing_and_done_work_leaves_none(
    covered: list[Covered], wanted: tuple[int, int], newest: int
) -> None:
    start, end = at(wanted[0]), at(wanted[1])
    work = decide_backfill(covered, start, end, newest)
    held = newest_by_hour(covered)
    by_hour = {h: w.seen for w in work for h in range(NUM_HOURS) if w.start <= at(h) < w.end}
    expected = {
        h: held[h] for h in range(wanted[0], wanted[1]) if held[h] is None or held[h] < newest  # type: ignore[operator]
    }
    assert by_hour == expected
    done = [*covered, *(Covered(w.start, w.end, newest) for w in work)]
    assert decide_backfill(done, start, end, newest) == []


@given(covered_stretches, covered_stretches)
def test_coverage_is_that_of_all_commits_together(one: list[Covered], other: list[Covered]) -> None:
    commits = [{COVERAGE: coverage_json(one)}, {"push": "sales"}, {COVERAGE: coverage_json(other)}]
    assert coverage_of(commits) == merged_coverage([*one, *other])


def test_a_later_raw_commit_asks_only_for_its_own_rows() -> None:
    covered = [Covered(at(0), at(6), 1)]
    assert decide_backfill(covered, at(0), at(8), 2) == [Stretch(at(0), at(6), 1), Stretch(at(6), at(8), None)]


@given(st.dictionaries(st.integers(1, NUM_HOURS).map(at), st.integers(1, 50)), st.integers(1, 100))
def test_chunks_tile_the_stretch_within_the_bound(rows_until: dict[datetime, int], max_rows: int) -> None:
    whole = Stretch(at(0), at(NUM_HOURS), None)
    chunks = cut(whole, rows_until, max_rows)
    assert (chunks[0].start, chunks[-1].end) == (whole.start, whole.end)
    assert all(a.end == b.start for a, b in pairwise(chunks))
    for chunk in chunks:
        inside = [n for moment, n in rows_until.items() if chunk.start < moment <= chunk.end]
        assert sum(inside) <= max_rows or len(inside) == 1
