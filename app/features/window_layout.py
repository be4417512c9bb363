"""What is kept of rows so that the windows of a view can be computed from it. Pure.

Legend: N = rows, M = tiles, Q = questions, S = cells (a cell is one statistic of one column).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache

import numpy as np

from app.features.sketches import DISTINCT, QUANTILE
from app.spec.features import Aggregation

SLACK_US = 86_400_000_000  # how far behind an entity's newest row a question may lie and still be answered exactly
EMPTY = {
    "count": 0.0, "total": 0.0, "mean": 0.0, "deviations": 0.0, "minimum": np.inf, "maximum": -np.inf, "last": np.nan,
}  # of no rows, in the order in which cells are laid out
NEEDS = {
    "count": ("count",),
    "sum": ("count", "total"),
    "mean": ("count", "total"),
    "std": ("count", "mean", "deviations"),
    "min": ("count", "minimum"),
    "max": ("count", "maximum"),
    "last": ("count", "last"),
    "distinct_count": (),
    "quantile": (),
}
SKETCHES = {"distinct_count": DISTINCT, "quantile": QUANTILE}
Cell = tuple[str, str]  # (column, statistic)
Sketch = tuple[str, str]  # (column, kind)


def micros(duration: timedelta) -> int:
    """Whole microseconds of a duration."""
    return duration // timedelta(microseconds=1)


@dataclass(frozen=True)
class CellLayout:
    """The cells of a tile, sorted by statistic: sums first, then moments, minima, maxima and last values."""

    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> CellLayout:
        """A layout of distinct cells."""
        order = list(EMPTY)
        return cls(tuple(sorted(dict.fromkeys(cells), key=lambda cell: order.index(cell[1]))))

    def __len__(self) -> int:
        return len(self.cells)

    @cached_property
    def place(self) -> dict[Cell, int]:
        """Position of each cell."""
        return {cell: i for i, cell in enumerate(self.cells)}

    @cached_property
    def empty(self) -> np.ndarray:
        """Cells of no rows: [S]."""
        return np.array([EMPTY[statistic] for _, statistic in self.cells])

    @cached_property
    def sums(self) -> slice:
        """Cells that add up: counts and totals."""
        return self._span("count", "total")

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Positions of the counts, means and sums of squared deviations of the columns that have them: [K] each."""
        columns = [column for column, statistic in self.cells if statistic == "mean"]
        if not columns:
            return None
        count, mean, deviations = (
            np.array([self.place[(column, statistic)] for column in columns])
            for statistic in ("count", "mean", "deviations")
        )
        return count, mean, deviations

    @cached_property
    def minima(self) -> slice:
        return self._span("minimum")

    @cached_property
    def maxima(self) -> slice:
        return self._span("maximum")

    @cached_property
    def lasts(self) -> slice:
        return self._span("last")

    def _span(self, *statistics: str) -> slice:
        order = list(EMPTY)
        ranks = [order.index(statistic) for _, statistic in self.cells]
        low, high = (order.index(statistics[i]) for i in (0, -1))
        return slice(sum(r < low for r in ranks), sum(r <= high for r in ranks))


@dataclass(frozen=True)
class TileLayout:
    """Tiles of one hop.

    `longest_us`: the longest window. `keep_us`: how long tiles are kept online. `sketches`: what, slot by slot.
    """

    hop_us: int
    longest_us: int
    keep_us: int
    cells: CellLayout
    sketches: tuple[Sketch, ...] = ()

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each slot."""
        return tuple(kind for _, kind in self.sketches)


@dataclass(frozen=True)
class WindowGroup:
    """Features of one hop and window.

    `places` in `features`: the positions of a function's statistics in `cells`. `sketched`: name, slot and quantile.
    """

    hop_us: int
    window_us: int
    cells: CellLayout
    chosen: np.ndarray  # [len(cells)] positions in the cells of the hop's tiles
    features: tuple[tuple[str, str, tuple[int, ...]], ...]  # (name, function, places)
    sketched: tuple[tuple[str, int, float | None], ...]


@dataclass(frozen=True)
class WindowLayout:
    """What a view's windows need of its rows, and the tiles of each hop, hops increasing.

    `columns`: read as numbers. `hashed`: read as hashes, for distinct counts.
    """

    columns: tuple[str, ...]
    tiles: tuple[TileLayout, ...]
    hashed: tuple[str, ...] = ()

    @classmethod
    def of(cls, aggregations: Sequence[Aggregation]) -> WindowLayout:
        """The layout for aggregations of one view; the same for the same aggregations, in training and in serving."""
        return _layout(tuple(aggregations))

    @property
    def num_words(self) -> int:
        """C: words of 8 bytes that a row is kept in."""
        return len(self.columns) + len(self.hashed)

    @property
    def keep_us(self) -> int:
        """How long rows are kept online."""
        return max(tile.keep_us for tile in self.tiles)

    def groups(self, aggregations: Sequence[Aggregation]) -> tuple[WindowGroup, ...]:
        """The folds that give `aggregations`, which are among the layout's."""
        return _groups(self, tuple(aggregations))


@lru_cache(maxsize=1_024)
def _layout(aggregations: tuple[Aggregation, ...]) -> WindowLayout:
    tiles = []
    for hop_us in sorted({micros(a.hop) for a in aggregations}):
        of_hop = [a for a in aggregations if micros(a.hop) == hop_us]
        longest = max(micros(a.window) for a in of_hop)
        cells = CellLayout.of((a.column, statistic) for a in of_hop for statistic in NEEDS[a.function])
        sketches = tuple(dict.fromkeys((a.column, SKETCHES[a.function]) for a in of_hop if a.function in SKETCHES))
        tiles.append(TileLayout(hop_us, longest, longest + 2 * hop_us + SLACK_US, cells, sketches))
    numbers = dict.fromkeys(a.column for a in aggregations if a.function != "distinct_count")
    hashed = dict.fromkeys(a.column for a in aggregations if a.function == "distinct_count")
    return WindowLayout(tuple(numbers), tuple(tiles), tuple(hashed))


@lru_cache(maxsize=1_024)
def _groups(layout: WindowLayout, aggregations: tuple[Aggregation, ...]) -> tuple[WindowGroup, ...]:
    tiles = {tile.hop_us: tile for tile in layout.tiles}
    groups = []
    for hop_us, window_us in dict.fromkeys((micros(a.hop), micros(a.window)) for a in aggregations):
        members = [a for a in aggregations if (micros(a.hop), micros(a.window)) == (hop_us, window_us)]
        cells = CellLayout.of((a.column, statistic) for a in members for statistic in NEEDS[a.function])
        features = tuple(
            (a.name, a.function, tuple(cells.place[(a.column, s)] for s in NEEDS[a.function]))
            for a in members if a.function not in SKETCHES
        )
        sketched = tuple(
            (a.name, tiles[hop_us].sketches.index((a.column, SKETCHES[a.function])), a.quantile)
            for a in members if a.function in SKETCHES
        )
        chosen = np.array([tiles[hop_us].cells.place[cell] for cell in cells.cells], dtype=np.int64)
        groups.append(WindowGroup(hop_us, window_us, cells, chosen, features, sketched))
    return tuple(groups)
