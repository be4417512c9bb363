"""What of a view's table can matter for the moments asked: its files by bucket, its columns, its stretch of time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from app.errors import UnknownNameError
from app.features.point_in_time import AVAILABLE, CREATED, EVENT, by_event, has_ties
from app.features.references import ViewRead
from app.features.view_rows import key_fields, stored_fields
from app.features.view_tables import KNOWN_AT_ONCE, REPLACED, view_table
from app.features.window_rows import all_distinct
from app.foundation.lake import BucketScan, Lake
from app.spec.features import FeatureView

VERSION = ("source_created_timestamp", CREATED, "row_key")  # which of several rows of one identity was written last
FEW_KEYS_SHARE = 0.1  # of the rows of a bucket; so few asked keys are picked out before anything is sorted


@dataclass(frozen=True)
class SpineStretch:
    """Moments of a spine in microseconds since the epoch, both ends included."""

    first_us: int
    last_us: int


@dataclass(frozen=True)
class Part:
    """One of several parts of time that a bucket is joined in: moments in `(after_us, until_us]`; `None`: no end."""

    after_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True)
class ViewScan:
    """The files of one view for one spine. Picklable: a task reads its own buckets.

    `stretch`: the spine's moments; `None` when it has none.
    """

    read: ViewRead
    scan: BucketScan
    stretch: SpineStretch | None

    @property
    def known_at_once(self) -> bool:
        """Whether every row was available when it happened."""
        return self.scan.properties.get(KNOWN_AT_ONCE) == "true"

    @property
    def replaced(self) -> bool:
        """Whether rows may be later versions of others."""
        return self.scan.properties.get(REPLACED) == "true"

    def narrow_columns(self) -> list[str]:
        """The columns that decide unless two rows tie."""
        keys = [f.name for f in key_fields(self.read.view)]
        times = [EVENT] if self.known_at_once else [EVENT, AVAILABLE]
        return list(dict.fromkeys([*keys, *(f.name for f in self.read.features), *times]))

    def all_columns(self) -> list[str]:
        """Every stored column: what decides between rows that tie is the same whatever was asked."""
        return [*(f.name for f in stored_fields(self.read.view)), CREATED]

    def rows(
        self, buckets: Collection[int] | None = None, keys: pl.DataFrame | None = None, part: Part | None = None,
        whole: bool = False,
    ) -> pl.DataFrame:
        """The rows to join, in the order of their events.

        Args:
            buckets: whose rows (default: all).
            keys: when few, only the rows of these keys.
            part: only rows that can first be seen at these moments; for windows, all that are seen there.
            whole: read every column even where nothing ties, as where rows may be replaced.
        """
        if self.stretch is None:
            buckets = []
        if self.read.view.aggregations:
            return self._window_rows(buckets, keys, part or Part())
        whole = whole or self.replaced
        names = self.all_columns() if whole else self.narrow_columns()
        rows = self._read(names, buckets, keys, None if part is None else self._visible_in(part))
        if not whole and has_ties(rows, self.read.view.join_keys):
            return self.rows(buckets, keys, part, whole=True)
        return by_event(rows)

    def _visible_in(self, part: Part) -> str | None:
        """Both times by the part's end, one of them after its beginning."""
        times = [EVENT] if self.known_at_once else [EVENT, AVAILABLE]
        conditions = []
        if part.until_us is not None:
            conditions += [f"{time} <= '{iso(part.until_us)}'" for time in times]
        if part.after_us is not None:
            after = iso(part.after_us)
            conditions.append("(" + " or ".join(f"{time} > '{after}'" for time in times) + ")")
        return " and ".join(conditions) or None

    def _window_rows(self, buckets: Collection[int] | None, keys: pl.DataFrame | None, part: Part) -> pl.DataFrame:
        """Rows in reach, and of rows further back those that replace one of them: they were written later.

        Earlier versions further back change nothing: they lie in no window, and what they are replaced by counts only
        from the moment it was available. Where no row replaces another, what says which was written last is not read.
        """
        view = self.read.view
        wanted = {f.name for f in self.read.features}
        columns = [a.column for a in view.aggregations if a.name in wanted]
        identity = [*(f.name for f in key_fields(view)), EVENT, AVAILABLE, *VERSION]
        first_us = part.after_us if part.after_us is not None or self.stretch is None else self.stretch.first_us
        oldest = None if first_us is None else iso(first_us, -reach_of(view))
        until = "" if part.until_us is None else f" and {AVAILABLE} <= '{iso(part.until_us)}'"
        in_reach = None if oldest is None else f"{AVAILABLE} > '{oldest}'{until}"
        every = list(dict.fromkeys([*identity, *columns]))
        if not self.replaced:
            rows = self._read([c for c in every if c not in VERSION[:2]], buckets, keys, in_reach)
            if all_distinct(rows["row_key"]):
                return rows
        rows = self._read(every, buckets, keys, in_reach)
        if not rows.height or oldest is None:
            return rows
        further = self._read(
            identity, buckets, rows.select("row_key"), f"{AVAILABLE} <= '{oldest}' and ({_written_after_any(rows)})"
        )
        return pl.concat([rows, further.join(rows, on="row_key", how="semi")], how="diagonal")

    def _read(
        self, columns: list[str], buckets: Collection[int] | None, keys: pl.DataFrame | None, part: str | None
    ) -> pl.DataFrame:
        rows = pl.DataFrame(self.scan.read(columns, buckets, part))
        if keys is None or not keys.width or not rows.height:
            return rows
        if self.read.view.aggregations and keys.height > rows.height * FEW_KEYS_SHARE:
            return rows  # finding out how few they are costs more than leaving the others out later
        asked = keys.drop_nulls().unique()
        if asked.height > rows.height * FEW_KEYS_SHARE:
            return rows
        return rows.join(asked, on=asked.columns, how="semi", maintain_order="left")


def reach_of(view: FeatureView) -> timedelta:
    """How far back of its moment a window may look."""
    return max((a.window + a.hop for a in view.aggregations), default=timedelta(0))


def _written_after_any(rows: pl.DataFrame) -> str:
    """The condition that a row was written after at least one of `rows`; most files then need not be read."""
    source_created, created = rows.select(VERSION[:2]).sort(VERSION[:2])[:1].row(0)
    if source_created is None:
        return f"{VERSION[0]} is not null or {VERSION[1]} >= '{created.isoformat()}'"
    first, second = source_created.isoformat(), created.isoformat()
    return f"{VERSION[0]} > '{first}' or ({VERSION[0]} = '{first}' and {VERSION[1]} > '{second}')"


def pinned_version(pinned: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """What an earlier manifest says of one view.

    Raises:
        UnknownNameError: it did not read that view.
    """
    views = pinned.get("views", {})
    if label not in views:
        raise UnknownNameError(
            f"the manifest given as pinned has not read {label!r}; it has read: {', '.join(views) or 'nothing'}. Ask "
            "for the same features, or leave pinned out.", view=label,
        )
    found: Mapping[str, Any] = views[label]
    return found


def open_view(
    lake: Lake, project: str, read: ViewRead, stretch: SpineStretch | None, as_of: datetime | None,
    pinned: Mapping[str, Any] | None = None,
) -> ViewScan:
    """The files that can matter.

    Args:
        lake: where the tables are.
        project: the project's name.
        read: the view and its features.
        stretch: the spine's moments.
        as_of: only rows written by then exist.
        pinned: the manifest of an earlier read whose snapshots are read again.

    Raises:
        UnknownNameError: a view that was never materialised, or a snapshot that is gone.
    """
    table = view_table(project, read.view.name, read.version)
    snapshot_id = None if pinned is None else pinned_version(pinned, read.label)["snapshot_id"]
    replaced = lake.table_properties(table).get(REPLACED) == "true"
    scan = lake.scan_buckets(table, _condition(read, stretch, as_of, replaced), snapshot_id)
    if not replaced and scan.properties.get(REPLACED) == "true":  # marked between the two looks
        scan = lake.scan_buckets(table, _condition(read, stretch, as_of, True), snapshot_id)
    if pinned is not None and snapshot_id is None:  # it had never been written to then
        scan = replace(scan, snapshot_id=None, files={})
    return ViewScan(read, scan, stretch)


def _condition(
    read: ViewRead, stretch: SpineStretch | None, as_of: datetime | None, replaced: bool = False
) -> str | None:
    """`replaced`: a version at any event time may replace a row."""
    conditions = []
    if stretch is not None:
        conditions = [f"{EVENT} <= '{iso(stretch.last_us)}'", f"{AVAILABLE} <= '{iso(stretch.last_us)}'"]
        if read.view.aggregations or replaced:
            conditions = conditions[1:]
            if not replaced:
                conditions.append(f"{AVAILABLE} > '{iso(stretch.first_us, -reach_of(read.view))}'")
        elif read.view.ttl is not None:
            conditions.append(f"{EVENT} >= '{iso(stretch.first_us, -read.view.ttl)}'")
    if as_of is not None:
        conditions.append(f"{CREATED} <= '{as_of.astimezone(UTC).isoformat()}'")
    return " and ".join(conditions) or None


def iso(moment_us: int, by: timedelta = timedelta(0)) -> str:
    """A moment moved, as text for a condition; the end of the calendar where it lies beyond that."""
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us) + by).isoformat()
    except OverflowError:
        end = datetime.max if (by or timedelta(microseconds=moment_us)) > timedelta(0) else datetime.min
        return end.replace(tzinfo=UTC).isoformat()

