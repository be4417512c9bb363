"""History as a live stream: at each moment what became known, what landed and what is asked.

Everything is cut by the *available* time: a row is sent once the world could know it, in the order in which it could.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from app.features.ingest import read_source
from app.foundation.lake import Lake
from app.spec import Project
from app.spec.features import Source

Row = dict[str, Any]


@dataclass(frozen=True)
class Tick:
    """One moment of the replay.

    `pushes`: rows by source that became available since the tick before. `labels`: truths that did.
    `cases`: what is asked at this moment.
    """

    at: datetime
    pushes: dict[str, list[Row]] = field(default_factory=dict)
    labels: list[Row] = field(default_factory=list)
    cases: list[Row] = field(default_factory=list)


class HistoryFeed:
    """The raw tables of a project between two moments, ready to be walked through once."""

    def __init__(self, project: Project, lake: Lake, start: datetime, end: datetime) -> None:
        self._project = project
        self._cases = self._read_cases(lake, start, end)
        self._labels = self._read_labels(lake, start, end)
        sources = {view.source.name: view.source for view in project.views}
        self._sources = {
            name: _between(read_source(lake, project.name, source), _available(source), start, end)
            for name, source in sources.items()
        }

    def ticks(self, start: datetime, end: datetime) -> Iterator[Tick]:
        """Ticks of `[start, end)`, one for each moment at which something is asked, and one at `end`.

        The tick at `end` carries what became known after the last question and asks nothing.
        """
        asked = self._cases.filter((pl.col("_at") >= start) & (pl.col("_at") < end))
        before = start
        for (at,), cases in asked.group_by("_at", maintain_order=True):
            assert isinstance(at, datetime)
            yield self._tick(before, at, cases.drop("_at"))
            before = at
        yield self._tick(before, end, None)

    def _tick(self, after: datetime, at: datetime, cases: pl.DataFrame | None) -> Tick:
        pushes = {}
        for name, frame in self._sources.items():
            rows = _slice(frame, after, at)
            if rows.height:
                pushes[name] = json_rows(rows)
        labels = _slice(self._labels, after, at)
        return Tick(at, pushes, json_rows(labels), [] if cases is None else json_rows(cases))

    def _read_cases(self, lake: Lake, start: datetime, end: datetime) -> pl.DataFrame:
        cases = self._project.cases
        frame = read_source(lake, self._project.name, cases.source)
        sent = case_columns(self._project)
        return (
            frame.filter(pl.col(cases.prediction_timestamp).is_between(start, end, closed="left"))
            .sort(cases.prediction_timestamp, cases.key)
            .select(*sent, pl.col(cases.prediction_timestamp).alias("_at"))
        )

    def _read_labels(self, lake: Lake, start: datetime, end: datetime) -> pl.DataFrame:
        label, key = self._project.label, self._project.cases.key
        frame = _between(read_source(lake, self._project.name, label.source), _available(label.source), start, end)
        return frame.select(
            pl.col(key).alias("key"),
            pl.col(label.column).cast(pl.Float64).alias("label"),
            pl.col("_available"),
            pl.col("_available").alias("available_timestamp"),
        ).drop_nulls("label")


def case_columns(project: Project) -> list[str]:
    """What a request says of a case: its key, the join keys of the service's views, the request fields."""
    views = dict.fromkeys(view for view, _ in project.expand(project.service))
    columns = {project.cases.key: None}
    for view in project.views:
        if view.name in views:
            columns.update(dict.fromkeys(view.join_keys))
    columns.update(dict.fromkeys(f.name for f in project.cases.request_fields))
    return list(columns)


def json_rows(frame: pl.DataFrame) -> list[Row]:
    """Rows as JSON-ready dicts: moments as ISO 8601 with offset, NaN as null."""
    converted = frame.with_columns(
        pl.col(pl.Datetime).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00"),
        pl.selectors.float().fill_nan(None),
    )
    return converted.to_dicts()


def _available(source: Source) -> str:
    return source.available_timestamp or source.event_timestamp


def _between(frame: pl.DataFrame, column: str, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows that became available in `(start, end]`, in that order, with the moment as `_available`."""
    return (
        frame.filter((pl.col(column) > start) & (pl.col(column) <= end))
        .with_columns(pl.col(column).alias("_available"))
        .sort("_available")
    )


def _slice(frame: pl.DataFrame, after: datetime, until: datetime) -> pl.DataFrame:
    """Rows of a frame sorted by `_available` in `(after, until]`."""
    low = frame["_available"].search_sorted(after, side="right")
    high = frame["_available"].search_sorted(until, side="right")
    return frame.slice(low, high - low).drop("_available")
