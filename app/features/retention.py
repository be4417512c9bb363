"""Which commits of the feature store's tables are still read for what they record, so that the others may be forgotten.

Commits carry state: views' tables what they cover, raw tables how far a source was read and which commits came since a
view was computed, the quarantine both. A commit is needed while forgetting it would change any of these. Pure but for
`Maintenance`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from app.features.backfill_commit import REFUSED_OF, refused_coverage, view_coverage
from app.features.coverage import COVERAGE, Covered, coverage_of, decide_backfill
from app.features.cursors import CURSOR
from app.features.incremental_ingest import CURSOR_OF
from app.features.ingest import CONTENT_HASH
from app.features.quarantine import quarantine_table
from app.features.raw_tables import raw_table
from app.features.view_tables import view_table
from app.foundation.lake import Lake, Retention
from app.foundation.lake.staging import Commit
from app.spec.features import FeatureView, Source

RETENTION = Retention()  # an untagged snapshot can be read by its id for a week


def needed_for_coverage(commits: Iterable[Commit]) -> set[int]:
    """The newest commits that together cover what all of them cover."""
    kept: list[Commit] = []
    covered: list[Covered] = []
    for commit in sorted((c for c in commits if COVERAGE in c.properties), key=lambda c: -c.sequence_number):
        together = coverage_of(c.properties for c in (*kept, commit))
        if together != covered:
            kept.append(commit)
            covered = together
    return {c.snapshot_id for c in kept}


def needed_for_cursors(commits: Iterable[Commit]) -> set[int]:
    """The last cursor of each table it belongs to; of sources read file by file every one, since each names its own."""
    last: dict[str | None, int] = {}
    needed: set[int] = set()
    for commit in sorted(commits, key=lambda c: c.sequence_number):
        if CURSOR in commit.properties:
            last[commit.properties.get(CURSOR_OF)] = commit.snapshot_id
            if "files" in json.loads(commit.properties[CURSOR]):
                needed.add(commit.snapshot_id)
    return needed | set(last.values())


def needed_of_quarantine(commits: Sequence[Commit]) -> set[int]:
    """Of the quarantine: the coverage of each view's refused rows, and the cursors."""
    of = {c.properties[REFUSED_OF] for c in commits if REFUSED_OF in c.properties}
    coverages = [needed_for_coverage(c for c in commits if c.properties.get(REFUSED_OF) == name) for name in of]
    return needed_for_cursors(commits).union(*coverages)


def needed_of_raw(
    commits: Sequence[Commit], computed: Iterable[Sequence[Covered]], refused: Iterable[Sequence[Covered]]
) -> set[int]:
    """Of a raw table: the cursors, the newest content, and every commit that some view has not computed yet.

    Args:
        commits: of the raw table.
        computed: by view that reads it, what its table covers.
        refused: by view in the same order, what the quarantine has of it. Where it has more than the view, a backfill
            was killed between the two, and the next one asks for all commits.
    """
    needed = needed_for_cursors(commits)
    hashed = [c for c in commits if CONTENT_HASH in c.properties]
    needed |= {max(hashed, key=lambda c: c.sequence_number).snapshot_id} if hashed else set()
    since = None
    for covered, quarantined in zip(computed, refused, strict=True):
        if any(decide_backfill(covered, r.start, r.end, r.sequence) for r in quarantined):
            return {c.snapshot_id for c in commits}
        oldest = min((c.sequence for c in covered), default=None)
        since = oldest if since is None else since if oldest is None else min(since, oldest)
    return needed | {c.snapshot_id for c in commits if since is not None and c.sequence_number > since}


@dataclass(frozen=True)
class Maintenance:
    """Forgets snapshots of one project's tables; each method gives their number."""

    project: str
    lake: Lake
    retention: Retention = RETENTION

    def of_view(self, view: FeatureView, version: int) -> int:
        """Of a view version's table."""
        return self._expire(view_table(self.project, view.name, version), needed_for_coverage)

    def of_source(self, source: Source, views: Iterable[tuple[FeatureView, int]]) -> int:
        """Of a source's raw table; `views`: all versions of all views."""
        tables = [view_table(self.project, v.name, version) for v, version in views if v.source.name == source.name]
        quarantine = self.lake.commits(quarantine_table(self.project))
        computed = [view_coverage(self.lake.commits(table)) for table in tables]
        refused = [refused_coverage(quarantine, table) for table in tables]
        return self._expire(raw_table(self.project, source), lambda raw: needed_of_raw(raw, computed, refused))

    def of_quarantine(self) -> int:
        """Of the table of refused rows."""
        return self._expire(quarantine_table(self.project), needed_of_quarantine)

    def of_all(self, sources: Iterable[Source], views: Sequence[tuple[FeatureView, int]]) -> int:
        """Of all tables of the feature store; `views`: all versions of all views."""
        of_views = sum(self.of_view(view, version) for view, version in views)
        return of_views + sum(self.of_source(source, views) for source in sources) + self.of_quarantine()

    def _expire(self, table: str, needed: Callable[[Sequence[Commit]], set[int]]) -> int:
        return self.lake.expire_snapshots(table, self.retention, needed) if self.lake.exists(table) else 0
