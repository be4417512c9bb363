"""The lake's table of a view version: its name, schema, partitions and order."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from app.features.arrow_types import ARROW_TYPES, arrow_schema
from app.features.sources import available_column
from app.features.view_rows import key_fields, stored_fields, view_schema
from app.foundation.lake import BUCKETED_TYPES, Lake
from app.spec.features import FeatureView

KNOWN_AT_ONCE = "millrace.known-at-once"  # whether every row was available when it happened, so need not say when
REPLACED = "millrace.replaced"  # "true" once a row may be a later version of another one, or a tombstone


def view_table(project: str, view: str, version: int) -> str:
    """Identifier of a view version's table."""
    return f"{project}.fv_{view}_v{version}"


def ensure_view_table(lake: Lake, project: str, view: FeatureView, version: int) -> str:
    """Makes the view version's table when there is none, and gives its identifier.

    It is partitioned by the first join key whose type Iceberg can put into buckets; without one it is whole.
    """
    table = view_table(project, view.name, version)
    hashed = tuple(f.name for f in key_fields(view) if ARROW_TYPES[f.dtype] in BUCKETED_TYPES)[:1]
    lake.ensure_table(
        table, view_schema(view), bucket_by=hashed, num_buckets=view.num_buckets, sort_by="event_timestamp",
        properties={KNOWN_AT_ONCE: str(view.source.available_timestamp is None).lower()},
    )
    return table


def mark_replaced(lake: Lake, table: str) -> None:
    """Notes for readers that rows of the table may replace others; before the first such row is there."""
    lake.set_property(table, REPLACED, "true")


def tombstones(view: FeatureView, raw: pa.Table, rows: pa.Table) -> pa.Table:
    """For each source row of which the view has none: a version of the view's row that says so.

    It has no event time and no values. Without the join keys among the source's columns nobody can tell whose it is,
    and a row that never becomes available says nothing.

    Args:
        view: the view.
        raw: rows of the source's raw table.
        rows: what `view_rows` made of them.

    Returns:
        Columns of `stored_fields(view)`.
    """
    schema = arrow_schema(stored_fields(view))
    available = raw[available_column(view.source)]
    if any(key not in raw.column_names for key in view.join_keys):
        return schema.empty_table()
    has_row = pc.is_in(raw["row_key"], value_set=rows["row_key"].combine_chunks())
    gone = raw.filter(pc.and_(pc.invert(has_row), pc.is_valid(available)))
    columns = {f.name: gone[f.name] for f in key_fields(view)}
    columns["row_key"] = gone["row_key"]
    columns["available_timestamp"] = gone[available_column(view.source)]
    columns["source_created_timestamp"] = gone["created_timestamp"]
    return pa.table([columns.get(f.name, pa.nulls(gone.num_rows, f.type)) for f in schema], schema=schema)
