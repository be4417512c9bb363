"""Historical features: every view joined to a spine as of each row's moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import ray

from app.features.arrow_types import require_columns, to_plain_pandas
from app.features.content_hash import combined, hash_parts
from app.features.join_spine import in_chunks, join_remote, join_table, stretch_of_blocks
from app.features.on_demand import compute
from app.features.point_in_time import EVENT
from app.features.references import ReadPlan
from app.features.sources import original_errors
from app.features.spine import RemoteSpine, moments, one_table, stretch_of, stretch_of_all
from app.features.storage_partitions import Columns
from app.features.tasks import RayTasks, Tasks
from app.features.view_scan import SpineStretch, ViewScan, open_view
from app.foundation.lake import Lake
from app.spec import Project

if TYPE_CHECKING:
    import ray.data

@dataclass(frozen=True)
class HistoricalFeatures:
    """The spine with its features, in this process or, where the spine was a large Ray Dataset, in the cluster.

    `blocks`: tables, or references to tables, in the order of the rows. `read`: what was read.
    """

    blocks: tuple[Any, ...]
    read: dict[str, Any]

    @cached_property
    def table(self) -> pa.Table:
        """All rows, gathered in this process."""
        tables = [ray.get(b) if isinstance(b, ray.ObjectRef) else b for b in self.blocks]
        return tables[0] if len(tables) == 1 else one_table(tables)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was read and what came out, enough to read the same again (`pinned`) and to know that it is the same."""
        remote = ray.remote(hash_parts) if isinstance(self.blocks[0], ray.ObjectRef) else None
        parts = [hash_parts(b) for b in self.blocks] if remote is None else ray.get(
            [remote.remote(b) for b in self.blocks]
        )
        return {**self.read, "rows": sum(p[2] for p in parts), "row_hash": combined(parts)}

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """As a frame; integers and booleans with misses are `Int64` and `boolean`."""
        return to_plain_pandas(self.table)

    def to_dataset(self) -> ray.data.Dataset:
        """As a Ray Dataset; what lies in the cluster stays there."""
        import ray.data

        if isinstance(self.blocks[0], ray.ObjectRef):
            return ray.data.from_arrow_refs(list(self.blocks))
        return ray.data.from_arrow(list(self.blocks))


@dataclass(frozen=True)
class _Finish:
    """What is done to each chunk once its features are there."""

    project: Project
    plan: ReadPlan

    def __call__(self, spine: pa.Table, joined: Columns) -> pa.Table:
        given = {name: spine[name] for name in spine.column_names}
        columns = {**joined, **compute(self.project, self.plan, given, joined)}
        for pair, name in self.plan.outputs:
            spine = spine.append_column(name, columns[pair])
        return spine


def read_historical(
    project: Project, lake: Lake, plan: ReadPlan, spine: pa.Table | RemoteSpine, as_of: datetime | None = None,
    pinned: Mapping[str, Any] | None = None, tasks: Tasks | None = None,
) -> HistoricalFeatures:
    """Joins what `plan` says; `tasks`: where the pieces of large joins run (default: Ray's workers).

    Raises:
        MissingColumnError: the spine lacks a join key or `event_timestamp`.
        SchemaMismatchError, TimestampError: a join key or moment of another type.
        UnknownNameError: a view that was never materialised, or a pinned snapshot that is gone.
    """
    require_columns(spine.column_names, [EVENT, *(k for r in plan.joined for k in r.key_columns)], "entity_df")
    finish = _Finish(project, plan)
    tasks = tasks or RayTasks()
    with original_errors():
        if isinstance(spine, pa.Table):
            times = moments(spine)
            views = _open(lake, project, plan, stretch_of(times), as_of, pinned)
            joined = join_table(tasks, views, spine, times)
            blocks = (finish(spine, joined),)
        else:
            chunks = in_chunks(spine)
            found = tasks.get([tasks.submit(stretch_of_blocks, *chunk) for chunk in chunks])
            views = _open(lake, project, plan, stretch_of_all(found), as_of, pinned)
            blocks = join_remote(tasks, views, chunks, finish)
    return HistoricalFeatures(blocks, {
        "views": {
            v.read.label: {
                "version": v.read.version, "table": v.scan.table, "snapshot_id": v.scan.snapshot_id,
                "rows_scanned": v.scan.num_rows(),
            }
            for v in views
        },
        "features": [f"{label}:{feature}" for (label, feature), _ in plan.outputs],
        "as_of": None if as_of is None else as_of.isoformat(),
        "created_timestamp": datetime.now(UTC).isoformat(),
    })


def _open(
    lake: Lake, project: Project, plan: ReadPlan, stretch: SpineStretch | None, as_of: datetime | None,
    pinned: Mapping[str, Any] | None,
) -> list[ViewScan]:
    return [open_view(lake, project.name, read, stretch, as_of, pinned) for read in plan.joined]
