"""Commits one view's chunk: its refused rows first, then its own, each once whoever else commits meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.features.backfill_stage import staged_of
from app.features.coverage import COVERAGE, Covered, Stretch, coverage_json, coverage_of, decide_backfill, within
from app.features.definitions import definition_hash
from app.features.quarantine import quarantine_table
from app.features.raw_snapshot import RawSnapshot
from app.features.view_tables import view_table
from app.foundation.lake import Lake
from app.foundation.lake.staging import Commit, StagedRows
from app.spec.features import FeatureView

REFUSED_OF = "refused_of"  # property of a quarantine's commit: the view's table whose refused rows it holds


@dataclass(frozen=True)
class Written:
    """One commit of a view's rows."""

    rows: int
    quarantined: int
    snapshot_id: int


class ChunkCommit:
    """A chunk of one view on its way into the table.

    Made before the chunk is computed: it remembers which refused rows the quarantine had then (`refused`). A kill
    between the two commits leaves refused rows without the view's; they are not quarantined a second time.
    """

    def __init__(
        self, lake: Lake, project: str, raw: RawSnapshot, chunk: Stretch, view: FeatureView, version: int
    ) -> None:
        self.view = view
        self._lake = lake
        self._raw = raw
        self._chunk = chunk
        self._table = view_table(project, view.name, version)
        self._quarantine = quarantine_table(project)
        self.refused = refused_coverage(lake.commits(self._quarantine), self._table) if view.expectations else []

    def write(self, staged: Iterable[tuple[str, StagedRows]], marks: dict[str, str]) -> Written | None:
        """Commits both; `None` when another backfill has written some of it meanwhile, and nothing of it was.

        Raises:
            StateConflictError: others kept committing first.
        """
        staged = list(staged)
        marks = {**marks, "definition_hash": definition_hash(self.view), "raw_snapshot_id": str(self._raw.snapshot_id)}
        own = Covered(self._chunk.start, self._chunk.end, self._raw.newest)
        refused = staged_of(staged, self.view.name, self._quarantine)
        if refused:
            properties = {**marks, REFUSED_OF: self._table, COVERAGE: coverage_json([*self.refused, own])}
            if self._lake.commit_staged(self._quarantine, refused, properties, self._no_more_refused) is None:
                return None
        rows = staged_of(staged, self.view.name, self._table)
        covered = coverage_json([*view_coverage(self._lake.commits(self._table)), own])
        snapshot_id = self._lake.commit_staged(self._table, rows, {**marks, COVERAGE: covered}, self._still_missing)
        if snapshot_id is None:
            return None
        return Written(sum(r.num_rows for r in rows), sum(r.num_rows for r in refused), snapshot_id)

    def _no_more_refused(self, commits: Sequence[Commit]) -> bool:
        now = refused_coverage(commits, self._table)
        return within(now, self._chunk) == within(self.refused, self._chunk)

    def _still_missing(self, commits: Sequence[Commit]) -> bool:
        work = decide_backfill(view_coverage(commits), self._chunk.start, self._chunk.end, self._raw.newest)
        return work == [self._chunk]


def view_coverage(commits: Iterable[Commit]) -> list[Covered]:
    """What a view's table covers."""
    return coverage_of(c.properties for c in commits)


def refused_coverage(commits: Iterable[Commit], table: str) -> list[Covered]:
    """The stretches of a view whose refused rows are in the quarantine."""
    return coverage_of(c.properties for c in commits if c.properties.get(REFUSED_OF) == table)
