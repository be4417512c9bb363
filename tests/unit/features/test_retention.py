"""Forgetting commits changes neither what a table covers nor what a source or backfill reads next."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.features.backfill_commit import REFUSED_OF, refused_coverage
from app.features.coverage import COVERAGE, Covered, coverage_json, coverage_of
from app.features.cursors import CURSOR
from app.features.incremental_ingest import CURSOR_OF
from app.features.ingest import CONTENT_HASH
from app.features.retention import needed_for_coverage, needed_of_quarantine, needed_of_raw
from app.foundation.lake.staging import Commit

BASE = datetime(2024, 1, 1, tzinfo=UTC)


def covered(start: int, end: int, sequence: int) -> Covered:
    return Covered(BASE + timedelta(days=start), BASE + timedelta(days=end), sequence)


def commits(*properties: dict[str, str]) -> list[Commit]:
    return [Commit(100 + i, i + 1, p) for i, p in enumerate(properties)]


STRETCH = st.builds(lambda start, days, s: covered(start, start + days, s), *map(st.integers, (0, 1, 0), (9, 5, 4)))


@given(st.lists(st.lists(STRETCH, max_size=3), max_size=8), st.booleans())
def test_what_is_covered_stays_the_same(histories: list[list[Covered]], grows: bool) -> None:
    whole: list[Covered] = []
    recorded = []
    for stretches in histories:
        whole = [*whole, *stretches] if grows else stretches  # writers that knew of one another, or not
        recorded.append({COVERAGE: coverage_json(whole)})
    all_commits = commits(*recorded)
    needed = needed_for_coverage(all_commits)
    left = [c for c in all_commits if c.snapshot_id in needed]
    assert coverage_of(c.properties for c in left) == coverage_of(c.properties for c in all_commits)
    if grows:
        assert len(left) <= 1 or coverage_of([left[-1].properties]) != coverage_of(c.properties for c in all_commits)


def test_the_quarantine_keeps_each_views_coverage_and_each_sources_cursor() -> None:
    cursor = {CURSOR: '{"value": 1}'}
    found = commits(
        {REFUSED_OF: "a", COVERAGE: coverage_json([covered(0, 1, 1)])},
        {REFUSED_OF: "a", COVERAGE: coverage_json([covered(0, 2, 2)])},
        {REFUSED_OF: "b", COVERAGE: coverage_json([covered(0, 1, 1)])},
        {**cursor, CURSOR_OF: "raw_a"}, {**cursor, CURSOR_OF: "raw_a"}, {**cursor, CURSOR_OF: "raw_b"}, {},
    )
    needed = needed_of_quarantine(found)
    assert needed == {101, 102, 104, 105}
    left = [c for c in found if c.snapshot_id in needed]
    assert all(refused_coverage(left, table) == refused_coverage(found, table) for table in ("a", "b"))


def test_a_raw_table_keeps_what_a_view_has_not_computed_and_what_a_source_reads_next() -> None:
    files = [{CURSOR: json.dumps({"files": {str(i): "1"}})} for i in range(2)]
    values = [{CURSOR: json.dumps({"value": i})} for i in range(3)]
    assert needed_of_raw(commits(*files, *values), [], []) == {100, 101, 104}
    hashed = commits(*({CONTENT_HASH: str(i)} for i in range(4)))
    assert needed_of_raw(hashed, [], []) == {103}
    behind, ahead = [covered(0, 5, 2), covered(5, 9, 4)], [covered(0, 9, 3)]
    assert needed_of_raw(hashed, [ahead, behind], [[], []]) == {102, 103}
    assert needed_of_raw(hashed, [ahead, []], [[], []]) == {103}, "a view without rows is computed whole"


def test_a_backfill_that_was_killed_after_its_refused_rows_finds_every_commit() -> None:
    hashed = commits(*({CONTENT_HASH: str(i)} for i in range(4)))
    refused = [covered(0, 9, 4)]
    assert needed_of_raw(hashed, [[]], [refused]) == {100, 101, 102, 103}
    assert needed_of_raw(hashed, [[covered(0, 9, 4)]], [refused]) == {103}
