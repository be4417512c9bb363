"""Brings tables of views into the online store, and remembers how far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
import sqlalchemy as sa

from app.errors import FeatureStoreError
from app.features.online import Batch, LatestBatch, OnlineStore
from app.features.online_read import online_table
from app.features.push import newest_for_online, online_batch
from app.features.references import ViewRead
from app.features.view_tables import view_table
from app.foundation.lake import Lake
from app.foundation.state import StateDatabase
from app.foundation.state import registry_models as r
from app.spec.features import FeatureView

SLICE_KEYS = 500  # a writer to Redis starts again when it is overtaken, so a load must be done between two pushes


@dataclass(frozen=True)
class Rollback:
    """What a rollback did. `online_rows`: brought into the online store, 0 when they were there already.

    `until`: what became available later is not in the online store; `None` when the view has no rows at all.
    """

    view: str
    from_version: int
    version: int
    online_rows: int
    until: datetime | None


class OnlineLoads:
    """Loads of one project's online store."""

    def __init__(self, project: str, lake: Lake, database: StateDatabase, online: OnlineStore) -> None:
        self._project = project
        self._lake = lake
        self._database = database
        self._online = online

    def load(self, view: FeatureView, version: int, until: datetime, replace: bool = False) -> int:
        """Fills one view version with what was available by `until`; gives the rows it took.

        Rows are added to what the online store has, a few hundred entities at a time, so that pushes go on meanwhile;
        none is replaced by one written earlier. `replace`: what it had is forgotten in the same step, pushes included.
        """
        table = view_table(self._project, view.name, version)
        snapshot_id = self._lake.current_snapshot_id(table)
        online = online_table(self._project, ViewRead(view.name, view, version, ()))
        rows = pl.DataFrame(
            self._lake.read(
                table, row_filter=f"available_timestamp <= '{until.isoformat()}'", snapshot_id=snapshot_id
            )
        )
        newest = newest_for_online(view, rows, until)
        batch = online_batch(online, view, newest.to_arrow())
        for part in [batch] if replace else slices(batch):
            self._online.put([part], replace=replace)
        with self._database.session() as session:
            session.merge(
                r.OnlineLoad(
                    project=self._project, view=view.name, version=version, until=until, snapshot_id=snapshot_id,
                    rows=newest.height, loaded_at=datetime.now(UTC),
                )
            )
        return newest.height

    def fill_for_rollback(self, view: FeatureView, version: int, from_version: int) -> Rollback:
        """Brings `version` as far as `from_version` was brought, unless it is there already.

        Raises:
            FeatureStoreError: only `from_version` has rows: after the rollback nothing would be found.
        """
        table, replaced = (view_table(self._project, view.name, v) for v in (version, from_version))
        if not self._has_rows(table):
            if self._has_rows(replaced):
                raise FeatureStoreError(
                    f"version {version} of feature view {view.name!r} has no rows, version {from_version} has: after a "
                    f"rollback nothing would be found. Run materialize(…, ['{view.name}@v{version}']) first.",
                    view=view.name, version=version,
                )
            return Rollback(view.name, from_version, version, 0, None)
        before = self._last(view.name, from_version)
        until = datetime.now(UTC) if before is None else before.until
        done = self._last(view.name, version)
        if done is not None and done.until >= until and done.snapshot_id == self._lake.current_snapshot_id(table):
            return Rollback(view.name, from_version, version, 0, done.until)
        return Rollback(view.name, from_version, version, self.load(view, version, until), until)

    def _has_rows(self, table: str) -> bool:
        return self._lake.exists(table) and self._lake.max_rows(table) > 0

    def last_load(self, view: str, version: int) -> datetime | None:
        """Up to when a view version was brought into the online store."""
        found = self._last(view, version)
        return None if found is None else found.until

    def _last(self, view: str, version: int) -> r.OnlineLoad | None:
        table = r.OnlineLoad
        with self._database.session() as session:
            return session.scalar(
                sa.select(table).where(
                    table.project == self._project, table.view == view, table.version == version
                )
            )


def slices(batch: Batch) -> Iterator[Batch]:
    """A batch in parts of at most `SLICE_KEYS` entities, each with all its rows in their order."""
    keys = [row.key for row in batch.rows] if isinstance(batch, LatestBatch) else batch.keys
    part = {key: number // SLICE_KEYS for number, key in enumerate(dict.fromkeys(keys))}
    if len(part) <= SLICE_KEYS:
        yield batch
        return
    of_row = np.array([part[key] for key in keys], dtype=np.int64)
    order = np.argsort(of_row, kind="stable")
    for index in np.split(order, np.flatnonzero(np.diff(of_row[order])) + 1):
        if isinstance(batch, LatestBatch):
            yield LatestBatch(batch.table, [batch.rows[i] for i in index])
        else:
            yield batch.take(index)
