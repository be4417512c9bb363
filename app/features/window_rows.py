"""Feature rows made ready for windows: sorted, resolved, folded into tiles. Pure.

Rows come as arrays sorted by `(entity, available, event, row key)`, one row for each row key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from app.features.point_in_time import AVAILABLE, CREATED, EVENT
from app.features.window_fold import lift, running
from app.features.window_layout import TileLayout
from app.features.windows import Tiles, tile_index

ORDER = (AVAILABLE, EVENT, "row_key")


@dataclass(frozen=True)
class WindowRows:
    """Rows of a view: shape [N] each. `values` holds float64 columns by name, NaN where null."""

    entity: np.ndarray
    available_us: np.ndarray
    values: Mapping[str, np.ndarray]

    def tiles_and_heads(
        self, layout: TileLayout, entity: np.ndarray, moments: np.ndarray
    ) -> tuple[Tiles, np.ndarray]:
        """Tiles of a hop, and for each question the cells of its head tile's rows up to its moment."""
        index = tile_index(self.available_us, layout.hop_us)
        starts = segment_starts(self.entity, index)
        folded = running(layout.cells, lift(layout.cells, self.values, len(index)), starts)
        ends = segment_ends(starts, len(index))
        tiles = Tiles(self.entity[ends], index[ends], folded[ends])
        newest = self._newest_until(entity, moments)
        padded = np.append(index, np.iinfo(np.int64).min)
        in_head = (newest >= 0) & (padded[newest] == tile_index(moments, layout.hop_us))
        with_empty = np.concatenate([folded, layout.cells.empty[None]])
        return tiles, with_empty[np.where(in_head, newest, -1)]

    def _newest_until(self, entity: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Position of the last row of each entity with available <= moment; -1 without one."""
        times = np.unique(self.available_us)
        span = len(times) + 1
        own = self.entity * span + np.searchsorted(times, self.available_us, side="right")
        asked = entity * span + np.searchsorted(times, moments, side="right")
        found = np.searchsorted(own, asked, side="right") - 1
        same = (found >= 0) & (np.append(self.entity, -2)[found] == entity)
        return np.where(same, found, -1)


def segment_starts(entity: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Where a new (entity, tile) begins."""
    if len(entity) == 0:
        return np.empty(0, dtype=np.int64)
    changed = (np.diff(entity) != 0) | (np.diff(index) != 0)
    return np.concatenate([[0], np.flatnonzero(changed) + 1])


def segment_ends(starts: np.ndarray, num_rows: int) -> np.ndarray:
    """The last row of each segment."""
    return np.append(starts[1:], num_rows) - 1 if num_rows else starts


def resolve(rows: pl.DataFrame) -> pl.DataFrame:
    """One row for each row key: the one written last. A later correction replaces what it corrects."""
    if not rows["row_key"].is_duplicated().any():
        return rows
    newest = [c for c in (CREATED, "source_created_timestamp") if c in rows.columns]
    return rows.sort([*newest, *ORDER]).unique("row_key", keep="last", maintain_order=True)


def window_rows(rows: pl.DataFrame, entity: pl.Series, columns: Sequence[str]) -> WindowRows:
    """Sorted arrays of resolved rows; `entity` numbers each row of `rows`, null for nobody's."""
    ordered = (
        rows.select(*ORDER, *dict.fromkeys(columns))
        .with_columns(entity.cast(pl.Int64).alias("__entity"))
        .drop_nulls(["__entity", AVAILABLE])
        .sort(["__entity", *ORDER])
    )
    return WindowRows(
        entity=ordered["__entity"].to_numpy(),
        available_us=ordered[AVAILABLE].dt.epoch("us").to_numpy(),
        values={c: float_values(ordered[c]) for c in columns},
    )


def float_values(column: pl.Series) -> np.ndarray:
    """A numeric or boolean column as float64 with NaN for null."""
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
