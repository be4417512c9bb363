"""A source's raw table: its name, its rows, and what an ingest tells of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import polars as pl
import pyarrow as pa

from app.features.arrow_types import TIMESTAMP
from app.features.keys import row_keys
from app.foundation.lake.staging import Commit
from app.spec.features import Expectation, Source

CREATED = "created_timestamp"
PUSH = "push"  # property of the commits that a push made, in the raw table and in the views' tables


@dataclass(frozen=True)
class IngestResult:
    """What one ingest found.

    `rows` and `quarantined`: of what was read. `new_rows`: those that were new or changed, and written.
    `already_there`: nothing was new, nothing was written.
    """

    source: str
    rows: int
    quarantined: int
    snapshot_id: int | None
    already_there: bool = False
    new_rows: int = 0


def raw_table(project: str, source: Source) -> str:
    """Identifier of a source's raw table."""
    return f"{project}.raw_{source.name}"


def pushed_moments(commits: Iterable[Commit]) -> frozenset[datetime]:
    """When the pushes were made that left these commits: the `created_timestamp` of their raw rows."""
    return frozenset(datetime.fromisoformat(c.properties[CREATED]) for c in commits if PUSH in c.properties)


def row_expectations(source: Source) -> tuple[Expectation, ...]:
    """The declared rules, and that every row has an event time."""
    return (Expectation(source.event_timestamp, not_null=True), *source.expectations)


def raw_rows(table: pa.Table, source: Source, created: datetime) -> pa.Table:
    """Declared columns with the row's identity and the moment we wrote it."""
    keys = row_keys(pl.DataFrame(table), source.key).to_list()
    return table.append_column("row_key", pa.array(keys, pa.string())).append_column(
        CREATED, pa.repeat(pa.scalar(created, TIMESTAMP), table.num_rows)
    )
