"""The lake's table of a view version: its name, schema, partitions and order."""

from __future__ import annotations

from app.features.arrow_types import ARROW_TYPES
from app.features.view_rows import key_fields, view_schema
from app.foundation.lake import BUCKETED_TYPES, Lake
from app.spec.features import FeatureView

KNOWN_AT_ONCE = "millrace.known-at-once"  # whether every row was available when it happened, so need not say when


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
