"""What a source's raw table and the quarantine hold already, so that no ingest writes it again.

Rows are known by a hash of their content. The hashes lie apart by a hash of the rows' keys, those of a large table in
Ray's object store; whoever compares rows with them looks at one part after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from app.features.arrow_types import TIMESTAMP, conform
from app.features.content_hash import row_hashes
from app.features.key_parts import KEY, hashed_keys, held, reduced_by_key
from app.features.keys import row_keys
from app.features.point_in_time import comparable
from app.features.quarantine import QUARANTINE_SCHEMA, quarantine_table
from app.features.raw_tables import CREATED, pushed_moments
from app.features.sources import raw_schema
from app.foundation.lake import Lake
from app.spec.features import Source

CONTENT, PUSHED = "content", "pushed"
REFUSED = ("row",)  # a refused row is its text


@dataclass(frozen=True)
class KnownRows:
    """Contents by part of the keys: sorted hashes each, or references to them. `keys`: the columns of the key."""

    keys: tuple[str, ...]
    parts: tuple[Any, ...] = ()

    def unknown(self, rows: pa.Table, content: pa.Table | None = None) -> pa.Table:
        """Rows whose content (default: all their columns) is not among the known ones."""
        if not self.parts or not rows.num_rows:
            return rows
        content = rows if content is None else content
        hashes = row_hashes(content)
        if len(self.parts) == 1:
            return rows.filter(pa.array(~_among(held(self.parts[0]), hashes)))
        part = hashed_keys(row_keys(pl.DataFrame(content.select(self.keys)), self.keys)) % len(self.parts)
        new = np.ones(rows.num_rows, dtype=bool)
        for number in np.unique(part).tolist():
            at = np.flatnonzero(part == number)
            new[at] = ~_among(held(self.parts[number]), hashes[at])
        return rows.filter(pa.array(new))


def _among(known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Which hashes are among the sorted known ones."""
    if not len(known):
        return np.zeros(len(hashes), dtype=bool)
    found: np.ndarray = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
    return found


def known_rows(lake: Lake, table: str, source: Source, **bounds: Any) -> KnownRows:
    """The newest row of each identity that a source's raw table has; `bounds` as `reduced_by_key` has them.

    Where that was pushed, the earlier versions are known too: a source that has not heard of a pushed correction does
    not take it back.
    """
    if not lake.exists(table):
        return KnownRows(source.key)
    moments = sorted(pushed_moments(lake.commits(table)))
    return _of_raw(lake, table, source, moments, None, _KnownOfPart(only_pushed=False), bounds)


def pushed_rows(lake: Lake, table: str, source: Source, **bounds: Any) -> KnownRows:
    """The pushed rows of a raw table that are the newest of their identity."""
    moments = sorted(pushed_moments(lake.commits(table)))
    if not moments:
        return KnownRows(source.key)
    since = f"{CREATED} >= '{moments[0].isoformat()}'"
    return _of_raw(lake, table, source, moments, since, _KnownOfPart(only_pushed=True), bounds)


def refused_rows(lake: Lake, project: str, source: Source, **bounds: Any) -> KnownRows:
    """A source's own refused rows that the quarantine has."""
    table = quarantine_table(project)
    if not lake.exists(table):
        return KnownRows(REFUSED)
    lake.ensure_table(table, QUARANTINE_SCHEMA)
    scan = lake.scan_buckets(table, f"source = '{source.name}' and view is null")
    return KnownRows(REFUSED, reduced_by_key(scan, list(REFUSED), _refused_numbers, _refused_of_part, **bounds))


def newest_rows(rows: pl.DataFrame, first: Sequence[str] = ()) -> pl.DataFrame:
    """The row written last of each row key; of several written at once that with the greatest values, nulls least.

    Columns are compared as they stand in `rows`, those named `first` before the others. In which files, blocks or order
    the rows lie makes no difference.
    """
    if not rows["row_key"].is_duplicated().any():
        return rows
    ordered = settled_order(rows, first).sort(CREATED, maintain_order=True)
    return ordered.unique("row_key", keep="last", maintain_order=True)


def settled_order(rows: pl.DataFrame, first: Sequence[str] = ()) -> pl.DataFrame:
    """Rows in their order, those of one row key that were written at once behind them, the one that counts last."""
    tied = rows.select("row_key", CREATED).is_duplicated()
    if not tied.any():
        return rows
    columns = dict.fromkeys([*first, *rows.columns])
    settled = rows.filter(tied).sort([comparable(c, rows.schema[c]) for c in columns], nulls_last=False)
    return pl.concat([rows.filter(~tied), settled])


def _of_raw(
    lake: Lake, table: str, source: Source, moments: Sequence[datetime], row_filter: str | None, reduce: _KnownOfPart,
    bounds: dict[str, Any],
) -> KnownRows:
    scan = lake.scan_buckets(table, row_filter)
    numbers = _Numbers(source, tuple(moments))
    return KnownRows(source.key, reduced_by_key(scan, raw_schema(source).names, numbers, reduce, **bounds))


@dataclass(frozen=True)
class _Numbers:
    """Key, content, created time and whether it was pushed, of each row of a raw table."""

    source: Source
    pushed: tuple[datetime, ...]

    def __call__(self, raw: pa.Table) -> pa.Table:
        content = row_hashes(conform(raw, self.source.fields, f"raw table of source {self.source.name!r}"))
        moments = pa.array(self.pushed, TIMESTAMP)
        return pa.table(
            {
                KEY: hashed_keys(pl.Series(raw["row_key"])), CONTENT: content, CREATED: raw[CREATED].cast(pa.int64()),
                PUSHED: pc.is_in(raw[CREATED], value_set=moments),
            }
        )


@dataclass(frozen=True)
class _KnownOfPart:
    """Sorted contents of the newest row of each key; where that was pushed, of all of them, or of those alone.

    Of several rows of a key that were written at once all are known: whoever brings them again brings nothing new.
    """

    only_pushed: bool

    def __call__(self, *pieces: pa.Table) -> np.ndarray:
        rows = pl.DataFrame(pa.concat_tables(pieces))
        newest = rows.filter(pl.col(CREATED) == pl.col(CREATED).max().over(KEY))
        pushed = newest.filter(PUSHED)
        if self.only_pushed:
            return pushed[CONTENT].sort().to_numpy()
        earlier = rows.join(pushed, on=KEY, how="semi")
        return pl.concat([newest[CONTENT], earlier[CONTENT]]).sort().to_numpy()


def _refused_numbers(refused: pa.Table) -> pa.Table:
    keys = row_keys(pl.DataFrame(refused), REFUSED)
    return pa.table({KEY: hashed_keys(keys), CONTENT: row_hashes(refused)})


def _refused_of_part(*pieces: pa.Table) -> np.ndarray:
    return pl.Series(pa.concat_tables(pieces)[CONTENT]).sort().to_numpy()
