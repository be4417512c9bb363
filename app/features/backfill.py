"""Fills a view's table from its source's raw table; the same stretch of the same rows is never written twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import sqlalchemy as sa
from ray.data.expressions import Expr, col, lit

from app.features.arrow_types import TIMESTAMP, arrow_schema
from app.features.ingest import CREATED, raw_table
from app.features.sources import available_column, map_settled, original_errors, settle
from app.features.view_rows import stored_fields, view_rows
from app.features.view_tables import ensure_view_table
from app.foundation.lake import Lake
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.spec.features import FeatureView

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
MARK = "materialization"


@dataclass(frozen=True)
class MaterializeResult:
    """What one backfill of a view wrote. `already_there`: the same stretch of the same snapshot was there before."""

    view: str
    version: int
    start: datetime
    end: datetime
    rows: int
    snapshot_id: int | None
    already_there: bool = False


class Backfill:
    """Backfills of one project. Ranges are of *available* time: `(start, end]`, what became known after `start`."""

    def __init__(self, project: str, lake: Lake, database: StateDatabase) -> None:
        self._project = project
        self._lake = lake
        self._database = database

    def materialize(
        self, view: FeatureView, version: int, start: datetime, end: datetime, run_id: str
    ) -> MaterializeResult:
        """Writes the rows that became available in `(start, end]`.

        Raises:
            UnknownNameError: the source has not been ingested.
        """
        available = available_column(view.source)
        stretch = (col(available) > lit(start)) & (col(available) <= lit(end))
        return self._write(view, version, start, end, stretch, f"{start.isoformat()}/{end.isoformat()}", run_id)

    def materialize_incremental(
        self, view: FeatureView, version: int, end: datetime, run_id: str
    ) -> MaterializeResult:
        """Goes on where the last backfill ended, and adds rows of earlier stretches that were ingested since."""
        last = self._last(view.name, version)
        if last is None:
            return self.materialize(view, version, BEGINNING, end, run_id)
        available = available_column(view.source)
        new = col(available) > lit(last.end)
        raw = raw_table(self._project, view.source)
        if last.snapshot_id is not None:
            seen = self._lake.properties(raw, last.snapshot_id).get(CREATED)
            new = new if seen is None else new | (col(CREATED) > lit(datetime.fromisoformat(seen)))
        stretch = (col(available) <= lit(end)) & new
        start = min(last.end, end)
        return self._write(view, version, start, end, stretch, f"{start.isoformat()}/{end.isoformat()}+late", run_id)

    def _write(
        self, view: FeatureView, version: int, start: datetime, end: datetime, stretch: Expr,
        name: str, run_id: str,
    ) -> MaterializeResult:
        raw = raw_table(self._project, view.source)
        raw_snapshot = self._lake.current_snapshot_id(raw)
        table = ensure_view_table(self._lake, self._project, view, version)
        mark = f"{name}@{raw_snapshot}"
        found = self._lake.find_commit(table, MARK, mark)
        if raw_snapshot is None or found is not None:
            if self._record(view.name, version, start, end, raw_snapshot) is None:
                earlier = {} if found is None else self._lake.properties(table, found)
                num_rows = int(earlier.get("added-records", 0))
                self._remember(view.name, version, start, end, raw_snapshot, num_rows, run_id)
            return MaterializeResult(view.name, version, start, end, 0, found, already_there=True)
        created = datetime.now(UTC)

        def to_view(batch: pa.Table) -> pa.Table:
            return view_rows(view, batch)

        def stamp(rows: pa.Table) -> pa.Table:
            return rows.append_column(CREATED, pa.array([created] * rows.num_rows, TIMESTAMP))

        with original_errors():
            source_rows = self._lake.dataset(raw, snapshot_id=raw_snapshot).filter(expr=stretch)
            mapped = source_rows.map_batches(to_view, batch_format="pyarrow", batch_size=None)
            rows = map_settled(settle(mapped, arrow_schema(stored_fields(view))), stamp)
        num_rows = int(rows.num_rows if isinstance(rows, pa.Table) else rows.count())
        marks = {MARK: mark, "run_id": run_id, "raw_snapshot_id": str(raw_snapshot), CREATED: created.isoformat()}
        with original_errors():
            snapshot = self._lake.append(table, rows, marks)
        self._remember(view.name, version, start, end, raw_snapshot, num_rows, run_id)
        return MaterializeResult(view.name, version, start, end, num_rows, snapshot)

    def _last(self, view: str, version: int) -> m.Materialization | None:
        """The backfill that reaches furthest."""
        table = m.Materialization
        with self._database.session() as session:
            return session.scalars(
                sa.select(table)
                .where(table.project == self._project, table.view == view, table.version == version)
                .order_by(table.end.desc(), table.id.desc())
            ).first()

    def _record(
        self, view: str, version: int, start: datetime, end: datetime, raw_snapshot: int | None
    ) -> m.Materialization | None:
        table = m.Materialization
        with self._database.session() as session:
            return session.scalars(
                sa.select(table).where(
                    table.project == self._project, table.view == view, table.version == version,
                    table.start == start, table.end == end, table.snapshot_id == raw_snapshot,
                )
            ).first()

    def _remember(
        self, view: str, version: int, start: datetime, end: datetime, raw_snapshot: int | None, rows: int,
        run_id: str,
    ) -> None:
        """Notes what was done; `snapshot_id` is that of the raw table which was read."""
        with self._database.session() as session:
            session.add(
                m.Materialization(
                    project=self._project, view=view, version=version, start=start, end=end,
                    snapshot_id=raw_snapshot, rows=rows, quarantined=0, run_id=run_id, created_at=datetime.now(UTC),
                )
            )
