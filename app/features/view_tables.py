"""The lake's table of a view version: its name, schema, partitions and order."""

from __future__ import annotations

from app.features.view_rows import view_schema
from app.foundation.lake import Lake
from app.spec.features import FeatureView


def view_table(project: str, view: str, version: int) -> str:
    """Identifier of a view version's table."""
    return f"{project}.fv_{view}_v{version}"


def ensure_view_table(lake: Lake, project: str, view: FeatureView, version: int) -> str:
    """Makes the view version's table when there is none, and gives its identifier."""
    table = view_table(project, view.name, version)
    lake.ensure_table(table, view_schema(view), bucket_by=view.join_keys[:1], num_buckets=view.num_buckets)
    return table
