"""Fills views' tables from their sources' raw tables: each stretch of time whole or not at all, and only once.

What a table covers stands in its own commits (`coverage.py`). A backfill asks what is missing, cuts it into chunks of
bounded size, and for each chunk reads the raw rows once for all views of a source, stages their rows and commits them
view by view. A kill leaves whole chunks and perhaps orphan files; the next run goes on behind them. Whoever commits
a chunk second finds it covered and drops its files, so two backfills at once write nothing twice.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import numpy as np
import polars as pl

from app.features.backfill_commit import ChunkCommit, Written, view_coverage
from app.features.backfill_stage import StageViews, by_version
from app.features.coverage import Covered, Stretch, decide_backfill
from app.features.gone_rows import gone_rows
from app.features.key_parts import INLINE_ROWS
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_table
from app.features.raw_snapshot import BEGINNING, RawSnapshot, raw_snapshot
from app.features.raw_tables import CREATED, pushed_moments
from app.features.retention import Maintenance
from app.features.sources import original_errors, raw_schema
from app.features.view_tables import ensure_view_table, mark_replaced, view_table
from app.foundation.lake import Lake
from app.foundation.lake.staging import StagedRows
from app.foundation.lineage import provenance
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.spec.features import FeatureView

CHUNK_ROWS = 4_000_000  # raw rows of one commit: what a kill costs at most, and what bounds the workers' memory
CORRECTED_AT_ONCE = 500_000  # row keys whose versions are in memory at once
VersionedView = tuple[FeatureView, int]
Note = Callable[[str], None]


@dataclass(frozen=True)
class MaterializeResult:
    """What one backfill of a view wrote.

    `rows` and `quarantined`: written and refused by this call. `already_there`: nothing was missing.
    """

    view: str
    version: int
    start: datetime
    end: datetime
    rows: int
    snapshot_id: int | None
    already_there: bool = False
    quarantined: int = 0


@cache
def code_commit() -> str:
    """The commit of the code that this process runs."""
    return str(provenance()["code_commit"])


class Backfill:
    """Backfills of one project. Ranges are of *available* time: `(start, end]`, what became known after `start`."""

    def __init__(self, project: str, lake: Lake, database: StateDatabase) -> None:
        self._project = project
        self._lake = lake
        self._database = database

    def materialize(
        self, views: Sequence[VersionedView], start: datetime, end: datetime, run_id: str, note: Note | None = None
    ) -> list[MaterializeResult]:
        """Writes what is missing of `(start, end]`: rows never computed, and rows ingested since they were.

        Args:
            views: the views with their versions.
            start: exclusive, available time.
            end: inclusive.
            run_id: recorded with every commit.
            note: called with what was just done.

        Raises:
            UnknownNameError: a source has not been ingested.
            DataError, FeatureStoreError: a transform failed; the chunk it failed in is not written for any view.
        """
        by_source: dict[str, list[VersionedView]] = defaultdict(list)
        for view, version in views:
            by_source[view.source.name].append((view, version))
        results: dict[str, MaterializeResult] = {}
        for group in by_source.values():
            results.update(self._source(group, start, end, run_id, note or (lambda _: None)))
        maintenance = Maintenance(self._project, self._lake)
        for view, version in views:
            self._remember(results[view.name], run_id)
            if results[view.name].snapshot_id is not None:
                maintenance.of_view(view, version)
        return [results[view.name] for view, _ in views]

    def materialize_incremental(
        self, views: Sequence[VersionedView], end: datetime, run_id: str, note: Note | None = None
    ) -> list[MaterializeResult]:
        """As `materialize`, from the first moment each view covers (at first from the beginning) to `end`."""
        by_start: dict[datetime, list[VersionedView]] = defaultdict(list)
        for view, version in views:
            covered = self._coverage(view, version)
            by_start[min(covered[0].start, end) if covered else BEGINNING].append((view, version))
        results = {
            result.view: result
            for start, group in by_start.items()
            for result in self.materialize(group, start, end, run_id, note)
        }
        return [results[view.name] for view, _ in views]

    def _source(
        self, views: Sequence[VersionedView], start: datetime, end: datetime, run_id: str, note: Note
    ) -> dict[str, MaterializeResult]:
        """All views of one source."""
        raw = raw_snapshot(self._lake, self._project, views[0][0].source)
        for view, version in views:
            ensure_view_table(self._lake, self._project, view, version)
        if any(view.expectations for view, _ in views):
            self._lake.ensure_table(quarantine_table(self._project), QUARANTINE_SCHEMA)
        found = {v.name: MaterializeResult(v.name, n, start, end, 0, None, already_there=True) for v, n in views}
        if raw is None:
            return found
        created = datetime.now(UTC)  # one for all chunks: of two versions of a raw row the newer wins, wherever it lies
        corrected = raw.corrected(self._lake)
        if corrected.height:
            for view, version in views:
                mark_replaced(self._lake, view_table(self._project, view.name, version))
        started_s = time.monotonic()
        rows = 0
        while work := self._missing(views, start, end, raw):
            gone = self._gone(views, raw, raw.changed_since(corrected, work))
            for stretch, group in work.items():
                for chunk, num_rows in raw.chunks(self._lake, stretch, CHUNK_ROWS):
                    commits = [ChunkCommit(self._lake, self._project, raw, chunk, *pair) for pair in group]
                    already = {c.view.name: raw.refused_before(c.refused) for c in commits}
                    pushed = {
                        view.name: pushed_moments(self._lake.commits(view_table(self._project, view.name, version)))
                        for view, version in group
                    }
                    stage = StageViews(self._lake, self._project, tuple(group), created, already, gone, pushed)
                    staged = self._stage(stage, raw, chunk, num_rows)
                    for commit in commits:
                        marks = {"run_id": run_id, CREATED: created.isoformat(), "code_commit": code_commit()}
                        written = commit.write(staged, marks)
                        if written is not None:
                            found[commit.view.name] = _added(found[commit.view.name], written)
                            rows += written.rows
                    note(
                        f"{raw.source.name} → {', '.join(v.name for v, _ in group)}: {rows:,} rows, "
                        f"to {chunk.end:%Y-%m-%d %H:%M}, {time.monotonic() - started_s:.0f} s"
                    )
        return found

    def _missing(
        self, views: Sequence[VersionedView], start: datetime, end: datetime, raw: RawSnapshot
    ) -> dict[Stretch, list[VersionedView]]:
        """Work by stretch, with the views that need it."""
        work: dict[Stretch, list[VersionedView]] = defaultdict(list)
        for view, version in views:
            for stretch in decide_backfill(self._coverage(view, version), start, end, raw.newest):
                work[stretch].append((view, version))
        return dict(sorted(work.items(), key=lambda item: item[0].start))

    def _gone(
        self, views: Sequence[VersionedView], raw: RawSnapshot, hashes: np.ndarray
    ) -> dict[str, pl.DataFrame]:
        """Tombstones by view, of a bounded number of corrected rows at a time."""
        found: dict[str, list[pl.DataFrame]] = {view.name: [] for view, _ in views}
        for first in range(0, len(hashes), CORRECTED_AT_ONCE):
            versions = by_version(raw.versions_of(self._lake, hashes[first : first + CORRECTED_AT_ONCE]))
            for view, _ in views:
                found[view.name].append(gone_rows(view, versions, raw.landed))
        return {name: pl.concat(parts) for name, parts in found.items() if parts}

    def _stage(
        self, stage: StageViews, raw: RawSnapshot, chunk: Stretch, num_rows: int
    ) -> list[tuple[str, StagedRows]]:
        columns, row_filter = raw_schema(raw.source).names, raw.row_filter(chunk)
        scan = self._lake.scan_buckets(raw.table, row_filter, raw.snapshot_id)
        if num_rows <= INLINE_ROWS:
            return stage(scan.read(columns), pl.thread_pool_size())
        with original_errors():
            return stage.in_workers(scan, columns)

    def _coverage(self, view: FeatureView, version: int) -> list[Covered]:
        return view_coverage(self._lake.commits(view_table(self._project, view.name, version)))

    def _remember(self, result: MaterializeResult, run_id: str) -> None:
        """Notes what was done; the table's own commits, not this, say what is covered."""
        with self._database.session() as session:
            session.add(
                m.Materialization(
                    project=self._project, view=result.view, version=result.version, start=result.start,
                    end=result.end, snapshot_id=result.snapshot_id, rows=result.rows, quarantined=result.quarantined,
                    run_id=run_id, created_at=datetime.now(UTC),
                )
            )


def _added(before: MaterializeResult, now: Written) -> MaterializeResult:
    return replace(
        before, rows=before.rows + now.rows, quarantined=before.quarantined + now.quarantined,
        snapshot_id=now.snapshot_id, already_there=False,
    )

