"""Historical features: every view joined to a spine as of each row's moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import ray

from app.errors import FeatureStoreError, TimestampError
from app.features.arrow_types import arrow_schema, conform_column, require_columns, to_plain_pandas
from app.features.content_hash import content_hash
from app.features.join_view import Bucket, join_in_buckets, join_view, spine_keys
from app.features.on_demand import Columns, compute
from app.features.references import ReadPlan, ViewRead
from app.features.view_rows import key_fields
from app.features.view_tables import view_table
from app.foundation.lake import Lake
from app.spec import Project
from app.spec.features import FeatureView, Field

if TYPE_CHECKING:
    import ray.data

EVENT = "event_timestamp"
BUCKETS_ABOVE_ROWS = 2_000_000  # spine and feature rows together; more are joined in Ray tasks
ROWS_PER_BUCKET = 1_000_000


@dataclass(frozen=True)
class HistoricalFeatures:
    """The spine with its features. `manifest`: what was read, enough to read the same again."""

    table: pa.Table
    manifest: dict[str, Any]

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """As a frame; integers and booleans with misses are `Int64` and `boolean`."""
        return to_plain_pandas(self.table)

    def to_dataset(self) -> ray.data.Dataset:
        """As a Ray Dataset."""
        import ray.data

        return ray.data.from_arrow(self.table)


def as_table(entity_df: Any) -> pa.Table:
    """A spine given as pandas frame, Arrow table, polars frame or Ray Dataset.

    Raises:
        FeatureStoreError: something else.
    """
    if isinstance(entity_df, pa.Table):
        return entity_df
    if isinstance(entity_df, pd.DataFrame):
        return pa.Table.from_pandas(entity_df, preserve_index=False)
    if isinstance(entity_df, pl.DataFrame):
        return entity_df.to_arrow()
    if hasattr(entity_df, "to_arrow_refs"):
        blocks = ray.get(entity_df.to_arrow_refs())
        return pa.concat_tables([b for b in blocks if b.num_rows] or blocks[:1])
    raise FeatureStoreError(
        f"entity_df is {type(entity_df).__name__}; expected a pandas or polars frame, an Arrow table or a Ray Dataset."
    )


def moments(spine: pa.Table) -> pl.Series:
    """The spine's moments in UTC, in their own unit; without a zone they are UTC.

    Raises:
        TimestampError: the column holds no timestamps.
    """
    column = spine[EVENT]
    if not pa.types.is_timestamp(column.type):
        column = conform_column(column, Field(EVENT, "timestamp"), "entity_df")
    times = pl.Series(EVENT, column)
    if not isinstance(times.dtype, pl.Datetime):
        raise TimestampError(f"entity_df: column {EVENT!r} is {times.dtype}; expected timestamps.")
    if times.dtype.time_zone is None:
        return times.dt.replace_time_zone("UTC")
    return times.dt.convert_time_zone("UTC")


def read_historical(
    project: Project, lake: Lake, plan: ReadPlan, entity_df: Any, as_of: datetime | None
) -> HistoricalFeatures:
    """Joins what `plan` says.

    Raises:
        MissingColumnError: the spine lacks a join key or `event_timestamp`.
        UnknownNameError: a view that was never materialised.
    """
    spine = as_table(entity_df)
    require_columns(spine.column_names, [EVENT, *(k for r in plan.joined for k in r.key_columns)], "entity_df")
    times = moments(spine)
    joined: Columns = {}
    views: dict[str, Any] = {}
    for read in plan.joined:
        table = view_table(project.name, read.view.name, read.version)
        snapshot_id = lake.current_snapshot_id(table)
        rows = pl.DataFrame(_rows(lake, table, read.view, times, as_of, snapshot_id))
        found = _join(read, times, spine_keys(spine, read.view, read.key_columns), rows)
        schema = arrow_schema(read.features)
        for name in found.columns:
            joined[(read.label, name)] = found[name].to_arrow().cast(schema.field(name).type)
        views[read.label] = {"version": read.version, "table": table, "snapshot_id": snapshot_id, "rows": rows.height}
    given = {name: spine[name] for name in spine.column_names}
    joined.update(compute(project, plan, given, joined))
    result = spine
    for pair, name in plan.outputs:
        result = result.append_column(name, joined[pair])
    manifest = {
        "views": views,
        "features": [f"{label}:{feature}" for (label, feature), _ in plan.outputs],
        "as_of": None if as_of is None else as_of.isoformat(),
        "rows": result.num_rows,
        "row_hash": content_hash([result]),
        "created_timestamp": datetime.now(UTC).isoformat(),
    }
    return HistoricalFeatures(result, manifest)


def _rows(
    lake: Lake, table: str, view: FeatureView, times: pl.Series, as_of: datetime | None, snapshot_id: int | None
) -> pa.Table:
    """Rows of a view's table that can matter for the moments asked: columns and files that cannot are not read."""
    columns = [f.name for f in key_fields(view)]
    columns += [a.column for a in view.aggregations] if view.aggregations else [f.name for f in view.fields]
    columns += [EVENT, "available_timestamp", "created_timestamp", "source_created_timestamp", "row_key"]
    conditions = []
    first, last = times.min(), times.max()
    if isinstance(last, datetime) and isinstance(first, datetime):
        conditions.append(f"available_timestamp <= '{_later(last, timedelta(milliseconds=1))}'")
        if view.aggregations:
            reach = max(a.window + a.hop for a in view.aggregations)
            conditions.append(f"available_timestamp > '{_later(first, -reach)}'")
        elif view.ttl is not None:
            conditions.append(f"event_timestamp >= '{_later(first, -view.ttl)}'")
    if as_of is not None:
        conditions.append(f"created_timestamp <= '{as_of.astimezone(UTC).isoformat()}'")
    return lake.read(
        table, columns=list(dict.fromkeys(columns)), row_filter=" and ".join(conditions) or None,
        snapshot_id=snapshot_id,
    )


def _later(moment: datetime, by: timedelta) -> str:
    """A moment moved, or the end of the calendar where that lies beyond it."""
    try:
        return (moment + by).isoformat()
    except OverflowError:
        return (datetime.max if by > timedelta(0) else datetime.min).replace(tzinfo=UTC).isoformat()


def _join(read: ViewRead, times: pl.Series, keys: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    size = len(times) + rows.height
    if size <= BUCKETS_ABOVE_ROWS:
        return join_view(read.view, read.features, times, keys, rows)

    def run(buckets: list[Bucket]) -> list[pl.DataFrame]:
        task = ray.remote(_join_bucket)
        done = ray.get([task.remote(read, t.to_frame().to_arrow(), k.to_arrow(), r.to_arrow()) for t, k, r in buckets])
        return [pl.DataFrame(table) for table in done]

    return join_in_buckets(read.view, times, keys, rows, -(-size // ROWS_PER_BUCKET), run)


def _join_bucket(read: ViewRead, times: pa.Table, keys: pa.Table, rows: pa.Table) -> pa.Table:
    moments_of_bucket = pl.DataFrame(times).to_series()
    return join_view(read.view, read.features, moments_of_bucket, pl.DataFrame(keys), pl.DataFrame(rows)).to_arrow()


