"""A source's raw table pinned to a snapshot, as one backfill reads it: what lies in a stretch, and in which chunks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from app.features.coverage import Covered, Stretch, cut
from app.features.key_parts import INLINE_ROWS, KEY, hashed_keys, held, reduced_by_key
from app.features.raw_tables import CREATED, raw_table
from app.features.sources import available_column, original_errors, raw_schema
from app.foundation.lake import Lake
from app.foundation.lake.staging import Commit, newest_with_rows
from app.spec.features import Source

BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
BIN_US = 3_600_000_000  # available times are counted by the hour to find where to cut


@dataclass(frozen=True)
class RefusedBefore:
    """Rows available in `(start, end]` and created at one of these times have been to the quarantine."""

    start: datetime
    end: datetime
    created: frozenset[datetime]


@dataclass(frozen=True)
class RawSnapshot:
    """`commits`: those of the raw table up to the snapshot, oldest first."""

    source: Source
    table: str
    snapshot_id: int
    commits: tuple[Commit, ...]

    @property
    def newest(self) -> int:
        """Sequence number of the newest commit that brought rows."""
        return newest_with_rows(self.commits)

    def row_filter(self, stretch: Stretch) -> str:
        """The rows of a stretch; where it was computed before, only those of raw commits since."""
        column = available_column(self.source)
        conditions = [f"\"{column}\" <= '{stretch.end.isoformat()}'"]
        if stretch.start > BEGINNING:
            conditions.append(f"\"{column}\" > '{stretch.start.isoformat()}'")
        moments = self._created_since(stretch.seen)
        if moments is not None:
            conditions.append(f"{CREATED} in ({', '.join(repr(m) for m in moments)})")
        return " and ".join(conditions)

    def _created_since(self, seen: int | None) -> list[str] | None:
        """Created times of the rows of raw commits after `seen`; `None` when every row has to be computed.

        Commits, not times, say what is new: a commit may land after another whose rows were stamped later.
        """
        if seen is None:
            return None
        later = [c for c in self.commits if c.sequence_number > seen]
        brought = [c.properties[CREATED] for c in later if CREATED in c.properties]
        num_known = len(brought) + sum(c.compacts for c in later)
        return brought if num_known == self.commits[-1].sequence_number - seen else None  # else one is forgotten

    @property
    def landed(self) -> dict[datetime, int]:
        """Sequence number of the commit whose rows were created then."""
        return {
            datetime.fromisoformat(c.properties[CREATED]): c.sequence_number
            for c in self.commits if CREATED in c.properties
        }

    def corrected(self, lake: Lake, **bounds: Any) -> pl.DataFrame:
        """Versions of the row keys that the raw table has in more than one: `key` (`hashed_keys`) and created time.

        A table that was written in one commit has none, and is not read. Memory: 16 bytes a version found, and what one
        part takes (`bounds` as `reduced_by_key` has them).
        """
        total = self.commits[-1].properties.get("total-records")
        with_rows = [c for c in self.commits if total is not None and not c.compacts]
        if any(c.properties.get("added-records") == total for c in with_rows):
            return _NONE_CORRECTED
        scan = lake.scan_buckets(self.table, snapshot_id=self.snapshot_id)
        with original_errors():
            parts = reduced_by_key(scan, ["row_key", CREATED], _hashed_versions, _several_versions, **bounds)
            return pl.concat([_NONE_CORRECTED, *(pl.DataFrame(held(part)) for part in parts)])

    def changed_since(self, corrected: pl.DataFrame, stretches: Iterable[Stretch]) -> np.ndarray:
        """Of corrected row keys those with a version that some of the stretches may hold; sorted hashes."""
        moments: set[int] = set()
        for stretch in stretches:
            since = self._created_since(stretch.seen)
            if since is None:
                return np.sort(corrected["key"].unique().to_numpy())
            moments |= {int(pl.Series([datetime.fromisoformat(m)]).dt.epoch("us")[0]) for m in since}
        return np.sort(corrected.filter(pl.col(CREATED).is_in(list(moments)))["key"].unique().to_numpy())

    def versions_of(self, lake: Lake, hashes: np.ndarray) -> pa.Table:
        """Every version of the rows whose keys have these sorted hashes."""
        columns = raw_schema(self.source).names
        return self._mapped(lake, columns, None, _OfKeys(hashes)).select(columns)

    def _mapped(
        self, lake: Lake, columns: list[str], row_filter: str | None, function: Callable[[pa.Table], pa.Table]
    ) -> pa.Table:
        """A function of blocks of the table, here or in Ray's workers."""
        with original_errors():
            if lake.max_rows(self.table, row_filter, self.snapshot_id) <= INLINE_ROWS:
                return function(lake.read(self.table, columns, row_filter, self.snapshot_id))
            blocks = lake.dataset(self.table, columns, row_filter, self.snapshot_id)
            done = blocks.map_batches(function, batch_format="pyarrow", batch_size=None)
            return pa.concat_tables(done.iter_batches(batch_format="pyarrow", batch_size=None))

    def refused_before(self, refused: list[Covered]) -> list[RefusedBefore]:
        """The raw rows whose refused ones the quarantine has: by stretch, the created times of their commits."""
        return [
            RefusedBefore(
                c.start, c.end,
                frozenset(
                    datetime.fromisoformat(commit.properties[CREATED])
                    for commit in self.commits
                    if commit.sequence_number <= c.sequence and CREATED in commit.properties
                ),
            )
            for c in refused
        ]

    def chunks(self, lake: Lake, stretch: Stretch, max_rows: int) -> list[tuple[Stretch, int]]:
        """The stretch in pieces of bounded size, each with the number of rows it has at most."""
        row_filter = self.row_filter(stretch)
        at_most = lake.max_rows(self.table, row_filter, self.snapshot_id)
        if at_most <= max_rows:
            return [(stretch, at_most)]
        column = available_column(self.source)
        with original_errors():
            times = lake.dataset(self.table, [column], row_filter, self.snapshot_id)
            counted = times.map_batches(_CountByHour(column), batch_format="pyarrow", batch_size=None).take_all()
        rows_until: dict[datetime, int] = defaultdict(int)
        for row in counted:
            rows_until[row["until"].astimezone(UTC)] += row["rows"]
        chunks = cut(stretch, rows_until, max_rows)
        return [(c, sum(n for at, n in rows_until.items() if c.start < at <= c.end)) for c in chunks]


@dataclass(frozen=True)
class _CountByHour:
    """Rows of a block by the hour's end that they lie before."""

    column: str

    def __call__(self, block: pa.Table) -> pa.Table:
        moments = pl.Series("until", block[self.column]).drop_nulls().dt.epoch("us")
        until = -(-moments // BIN_US) * BIN_US
        counted = until.cast(pl.Datetime("us", "UTC")).to_frame().group_by("until").agg(rows=pl.len().cast(pl.Int64))
        return counted.to_arrow()


@dataclass(frozen=True)
class _OfKeys:
    """Rows of a block whose keys have one of some sorted hashes."""

    hashes: np.ndarray

    def __call__(self, block: pa.Table) -> pa.Table:
        found = hashed_keys(pl.Series(block["row_key"]))
        at = np.minimum(np.searchsorted(self.hashes, found), len(self.hashes) - 1)
        return block.filter(pa.array(self.hashes[at] == found))


_NONE_CORRECTED = pl.DataFrame(schema={KEY: pl.UInt64, CREATED: pl.Int64})


def _hashed_versions(block: pa.Table) -> pa.Table:
    return pa.table({KEY: hashed_keys(pl.Series(block["row_key"])), CREATED: block[CREATED].cast(pa.int64())})


def _several_versions(*pieces: pa.Table) -> pa.Table:
    """The versions of keys that have more than one."""
    return pl.DataFrame(pa.concat_tables(pieces)).unique().filter(pl.col(KEY).is_duplicated()).to_arrow()


def raw_snapshot(lake: Lake, project: str, source: Source) -> RawSnapshot | None:
    """The raw table as it is now; `None` while nothing was ever written to it.

    Raises:
        UnknownNameError: the source has not been ingested.
    """
    table = raw_table(project, source)
    snapshot_id = lake.current_snapshot_id(table)
    if snapshot_id is None:
        return None
    commits = lake.commits(table)
    until = next(c.sequence_number for c in commits if c.snapshot_id == snapshot_id)
    return RawSnapshot(source, table, snapshot_id, tuple(c for c in commits if c.sequence_number <= until))
