"""What a view's table holds at a snapshot: rows, entities, times, and each field's distribution.

Computed a column at a time, so memory holds one column, and kept by snapshot: a table that has not changed is not read
again. Every row of the table counts, also one that was corrected later. Values of `pii` fields are never shown, only
how many are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from app.features.view_rows import key_fields
from app.foundation.lake import Lake
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.spec.features import FeatureView, Field

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
NUM_TOP_VALUES = 10
NO_TOMBSTONE = "event_timestamp is not null"
NUMERIC = ("int64", "float64", "bool")


@dataclass(frozen=True)
class FieldStatistics:
    """Distribution of one field.

    `minimum`, `maximum`, `mean`, `quantiles` (value by share, e.g. `"0.5"`) of numbers; booleans count as 0 and 1.
    `top_values`: the most frequent values of a text with their counts. Absent ones are `None` or empty.
    """

    name: str
    dtype: str
    null_share: float
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    quantiles: Mapping[str, float] | None = None
    distinct: int | None = None
    top_values: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ViewStatistics:
    """What a view's table held at `snapshot_id`. Times are ISO 8601 in UTC, `None` for a table without rows."""

    table: str
    snapshot_id: int
    rows: int
    entities: int
    newest_event: str | None
    newest_available: str | None
    newest_created: str | None
    fields: tuple[FieldStatistics, ...]
    computed_at: str

    def lag(self, now: datetime) -> timedelta | None:
        """Age at `now` of what became available last: how fresh the view is."""
        if self.newest_available is None:
            return None
        return now - datetime.fromisoformat(self.newest_available)

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)


def view_statistics(lake: Lake, database: StateDatabase, view: FeatureView, table: str) -> ViewStatistics | None:
    """Statistics of the newest snapshot of a view's table, computed when they are not kept yet.

    Returns:
        `None` when the view was never materialised.
    """
    snapshot_id = lake.current_snapshot_id(table) if lake.exists(table) else None
    if snapshot_id is None:
        return None
    with database.session() as session:
        kept = session.get(m.FeatureStatistics, (table, snapshot_id))
        if kept is not None:
            return _without_personal(_from_dict(kept.statistics), view)
    computed = compute_statistics(lake, view, table, snapshot_id)
    with database.session() as session:
        session.merge(
            m.FeatureStatistics(
                table_name=table, snapshot_id=snapshot_id, statistics=computed.to_dict(), created_at=datetime.now(UTC)
            )
        )
    return computed


def _without_personal(kept: ViewStatistics, view: FeatureView) -> ViewStatistics:
    """Kept statistics without the values of fields that were declared personal since."""
    personal = {f.name for f in view.fields if f.pii}
    fields = (FieldStatistics(f.name, f.dtype, f.null_share) if f.name in personal else f for f in kept.fields)
    return replace(kept, fields=tuple(fields))


def compute_statistics(lake: Lake, view: FeatureView, table: str, snapshot_id: int) -> ViewStatistics:
    """Reads the table a column at a time."""

    def column(name: str) -> pl.Series:
        return pl.Series(name, lake.read(table, [name], NO_TOMBSTONE, snapshot_id)[name])

    newest = {name: column(f"{name}_timestamp").max() for name in ("event", "available", "created")}
    keys = [f.name for f in key_fields(view)]
    entities = pl.DataFrame(lake.read(table, keys, NO_TOMBSTONE, snapshot_id)) if keys else pl.DataFrame()
    first = column("event_timestamp")
    return ViewStatistics(
        table=table,
        snapshot_id=snapshot_id,
        rows=first.len(),
        entities=entities.drop_nulls().n_unique() if keys else min(first.len(), 1),
        newest_event=_text(newest["event"]),
        newest_available=_text(newest["available"]),
        newest_created=_text(newest["created"]),
        fields=tuple(field_statistics(f, column(f.name)) for f in view.fields),
        computed_at=datetime.now(UTC).isoformat(),
    )


def field_statistics(field: Field, values: pl.Series) -> FieldStatistics:
    """Distribution of one column; NaN is null.

    >>> field_statistics(Field("x", "int64"), pl.Series([1, 2, 3, None])).mean
    2.0
    """
    if values.dtype.is_float():
        values = values.fill_nan(None)
    known = values.drop_nulls()
    null_share = values.null_count() / values.len() if values.len() else 0.0
    if field.pii or known.len() == 0:
        return FieldStatistics(field.name, field.dtype, null_share)
    if field.dtype == "string":
        top = known.value_counts(sort=True).head(NUM_TOP_VALUES)
        return FieldStatistics(
            field.name, field.dtype, null_share, distinct=known.n_unique(),
            top_values=tuple((str(value), int(count)) for value, count in top.iter_rows()),
        )
    if field.dtype not in NUMERIC:
        return FieldStatistics(field.name, field.dtype, null_share, distinct=known.n_unique())
    numbers = known.cast(pl.Float64).sort()
    return FieldStatistics(
        field.name, field.dtype, null_share,
        minimum=float(numbers[0]), maximum=float(numbers[-1]), mean=_number(numbers.mean()),
        quantiles={f"{q:g}": _number(numbers.quantile(q, "nearest")) for q in QUANTILES},
        distinct=numbers.n_unique(),
    )


def _number(value: Any) -> float:
    return float(value)


def _text(moment: Any) -> str | None:
    return moment.isoformat() if isinstance(moment, datetime) else None


def _from_dict(kept: dict[str, Any]) -> ViewStatistics:
    fields = tuple(
        FieldStatistics(**{**f, "top_values": tuple((value, count) for value, count in f["top_values"])})
        for f in kept["fields"]
    )
    return ViewStatistics(**{**kept, "fields": fields})
