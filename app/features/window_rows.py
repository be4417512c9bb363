"""Feature rows made ready for windows: sorted, resolved, folded into tiles. Pure.

Rows come as arrays sorted by `(entity, available, event, row key)`, one row for each row key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from app.features.point_in_time import AVAILABLE, CREATED, EVENT
from app.features.sketches import DISTINCT, Entries, distinct_codes, merged_entries, quantile_codes
from app.features.window_fold import lift, running
from app.features.window_layout import TileLayout, WindowLayout
from app.features.windows import Heads, Tiles, tile_index

ORDER = (AVAILABLE, EVENT, "row_key")
MAX_NUMBER = 2**62


@dataclass(frozen=True)
class RowColumns:
    """What windows read of rows, by column: `numbers` float64 [N], NaN where null; `hashes` int64 [N]."""

    numbers: Mapping[str, np.ndarray]
    hashes: Mapping[str, np.ndarray]

    @classmethod
    def of_words(cls, layout: WindowLayout, words: np.ndarray) -> RowColumns:
        """The inverse of `words`."""
        num_numbers = len(layout.columns)
        hashes = words[:, num_numbers:].view(np.int64)
        return cls(
            {name: words[:, i] for i, name in enumerate(layout.columns)},
            {name: hashes[:, i] for i, name in enumerate(layout.hashed)},
        )

    def words(self, layout: WindowLayout) -> np.ndarray:
        """Rows as float64 [N, C], hashes as the bits of such."""
        hashes = [self.hashes[name].view(np.float64) for name in layout.hashed]
        return np.column_stack([*(self.numbers[name] for name in layout.columns), *hashes])

    def codes(self, layout: TileLayout, num_rows: int) -> np.ndarray:
        """The code of each row in each sketch of a hop: [slots, N]."""
        codes = np.empty((len(layout.sketches), num_rows), dtype=np.int64)
        for slot, (column, kind) in enumerate(layout.sketches):
            codes[slot] = self.hashes[column] if kind == DISTINCT else quantile_codes(self.numbers[column])
        return codes


@dataclass(frozen=True)
class WindowRows:
    """Rows of a view: shape [N] each."""

    entity: np.ndarray
    available_us: np.ndarray
    columns: RowColumns

    def tiles_and_heads(
        self, layout: TileLayout, entity: np.ndarray, moments: np.ndarray, newest: np.ndarray | None = None
    ) -> tuple[Tiles, Heads]:
        """Tiles of a hop, and what each question's head tile holds up to its moment.

        `newest`: `newest_until` of the questions when it is at hand; it is the same for every hop.
        """
        index = tile_index(self.available_us, layout.hop_us)
        starts = segment_starts(self.entity, index)
        folded = running(layout.cells, lift(layout.cells, self.columns.numbers, len(index)), starts)
        ends = segment_ends(starts, len(index))
        codes = self.columns.codes(layout, len(index))
        entries = merged_entries(layout.kinds, [row_entries(codes, self.entity, index)])
        newest = self.newest_until(entity, moments) if newest is None else newest
        padded = np.append(index, np.iinfo(np.int64).min)
        in_head = (newest >= 0) & (padded[newest] == tile_index(moments, layout.hop_us))
        with_empty = np.concatenate([folded, layout.cells.empty[None]])
        tile_start = np.append(np.repeat(starts, np.diff(np.append(starts, len(index)))), 0)
        stop = np.where(in_head, newest + 1, 0)
        begin = np.where(in_head, tile_start[newest], 0)
        cells = with_empty[np.where(in_head, newest, -1)]
        return Tiles(self.entity[ends], index[ends], folded[ends], entries), Heads(cells, codes, begin, stop)

    def newest_until(self, entity: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Position of the last row of each entity with available <= moment; -1 without one."""
        found = self.rows_until(entity, moments) - 1
        same = (found >= 0) & (np.append(self.entity, -2)[found] == entity)
        return np.where(same, found, -1)

    def rows_until(self, entity: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """How many rows lie before the first one of each entity with available > moment, those of others included."""
        own, _ = self._numbered
        return np.searchsorted(own, self.positions(entity, moments), side="right")

    def positions(self, entity: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Numbers in the order of `(entity, moment)`, equal to those of rows available at the same time."""
        if len(self.available_us) == 0:
            return moments
        _, times = self._numbered
        if times is not None:  # too wide to number every microsecond: only the times there are
            return entity * (len(times) + 1) + np.searchsorted(times, moments, side="right")
        low, span = span_of(self.available_us)
        found: np.ndarray = entity * span + np.clip(moments - low + 1, 0, span - 1)
        return found

    @cached_property
    def _numbered(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The number of each row, and all times there are where not every microsecond has a number of its own."""
        if len(self.available_us) == 0:
            return self.available_us, None
        low, span = span_of(self.available_us)
        if (int(self.entity.max()) + 1) * span < MAX_NUMBER:
            return self.entity * span + (self.available_us - low + 1), None
        times = pl.Series(self.available_us).unique().sort().to_numpy()
        return self.entity * (len(times) + 1) + np.searchsorted(times, self.available_us, side="right"), times


def span_of(moments: np.ndarray) -> tuple[int, int]:
    """The first moment, and how many numbers are needed for all from one before it to the last."""
    low = int(moments.min())
    return low, int(moments.max()) - low + 2


def segment_starts(entity: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Where a new (entity, tile) begins."""
    if len(entity) == 0:
        return np.empty(0, dtype=np.int64)
    changed = (np.diff(entity) != 0) | (np.diff(index) != 0)
    return np.concatenate([[0], np.flatnonzero(changed) + 1])


def segment_ends(starts: np.ndarray, num_rows: int) -> np.ndarray:
    """The last row of each segment."""
    return np.append(starts[1:], num_rows) - 1 if num_rows else starts


def resolve(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """One row for each row key of an entity: the one written last. A later correction replaces what it corrects.

    Written last: at the source, then by us, so that it does not matter which stretch of time was computed first. A
    tombstone, which has no values, stays: as a row of nulls it counts in no window.

    Identity is within an entity, offline as online (who reads one entity's rows cannot know of another's): a correction
    that names another entity leaves a tombstone with the first one.
    """
    if all_distinct(rows["row_key"]):
        return rows
    identity = [*keys, "row_key"]
    newest = [c for c in ("source_created_timestamp", CREATED) if c in rows.columns]
    return rows.sort([*newest, *ORDER]).unique(identity, keep="last", maintain_order=True)


def all_distinct(texts: pl.Series) -> bool:
    """Whether no text is there twice. Their hashes are compared first, which takes a fraction of the time."""
    return texts.hash().n_unique() == len(texts) or texts.n_unique() == len(texts)


def row_entries(codes: np.ndarray, entity: np.ndarray, index: np.ndarray) -> Entries:
    """Entries of single rows, to be merged: `codes` [slots, N]."""
    num_slots, num_rows = codes.shape
    return Entries(
        np.repeat(np.arange(num_slots), num_rows), np.tile(entity, num_slots), np.tile(index, num_slots),
        codes.reshape(-1), np.ones(codes.size, dtype=np.int64),
    )


def window_rows(rows: pl.DataFrame, entity: pl.Series, layout: WindowLayout) -> WindowRows:
    """Sorted arrays of resolved rows; `entity` numbers each row of `rows`, null for nobody's."""
    named = (
        rows.select(*ORDER, *dict.fromkeys([*layout.columns, *layout.hashed]))
        .with_columns(entity.cast(pl.Int64).alias("__entity"))
        .drop_nulls(["__entity", AVAILABLE])
    )
    ordered = named[_row_order(named)]
    return WindowRows(
        ordered["__entity"].to_numpy(), ordered[AVAILABLE].dt.epoch("us").to_numpy(), row_columns(layout, ordered)
    )


def _row_order(rows: pl.DataFrame) -> pl.Series:
    """Positions in the order of `(entity, available, event, row key)`; texts are compared only between ties."""
    us = rows[AVAILABLE].dt.epoch("us")
    low, span = span_of(us.to_numpy()) if rows.height else (0, 1)
    if rows.height == 0 or (int(rows["__entity"].to_numpy().max()) + 1) * span >= MAX_NUMBER:
        return rows.select(pl.arg_sort_by("__entity", *ORDER)).to_series()
    number = (rows["__entity"] * span + (us - low)).alias("number")
    order = number.arg_sort()
    after = np.diff(number.gather(order).to_numpy()) == 0
    tied = np.flatnonzero(np.append(after, False) | np.append(False, after))
    if not len(tied):
        return order
    places = order.gather(tied)
    among = pl.DataFrame([number, *rows.select(ORDER[1:])])[places].select(pl.arg_sort_by("number", *ORDER[1:]))
    return order.scatter(tied, places.gather(among.to_series()))


def row_columns(layout: WindowLayout, rows: pl.DataFrame) -> RowColumns:
    """What the windows of a view read of its rows."""
    return RowColumns(
        {name: float_values(rows[name]) for name in layout.columns},
        {name: distinct_codes(rows[name]) for name in layout.hashed},
    )


def float_values(column: pl.Series) -> np.ndarray:
    """A numeric or boolean column as float64 with NaN for null."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
