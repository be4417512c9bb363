"""Windows that rows alone decide, however they are folded: differences of running sums, and last values. Pure.

Whole numbers below 2**53 are added without rounding, so every order gives the same bits and no tile need be made:
what lies in `(start, t]` is what there was up to `t` less what there was up to `start`. Counts and last values never
depend on the order of additions. All else goes through tiles (`windows.py`).

Legend: N = rows, Q = questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from app.features.window_fold import MAX_EXACT
from app.features.window_layout import micros
from app.features.window_rows import WindowRows
from app.features.windows import finish
from app.spec.features import Aggregation

ORDER_FREE = ("count", "last")
ADDED = ("sum", "mean")


@dataclass(frozen=True)
class _Running:
    """One column [N], NaN where null, summed up from its first row."""

    values: np.ndarray

    @cached_property
    def known(self) -> np.ndarray:
        """Whether a row counts: [N]."""
        known: np.ndarray = ~np.isnan(self.values)
        return known

    @cached_property
    def filled(self) -> np.ndarray:
        """Values with zero for null: [N]."""
        return np.where(self.known, self.values, 0.0)

    @cached_property
    def exact(self) -> bool:
        """Whether every order of addition gives the same sum."""
        return bool((np.rint(self.filled) == self.filled).all() and np.abs(self.filled).sum() < MAX_EXACT)

    @cached_property
    def counts(self) -> np.ndarray | None:
        """Rows that count before each position: [N + 1]; `None` when all do."""
        return None if self.known.all() else _before(self.known, np.int64)

    @cached_property
    def totals(self) -> np.ndarray:
        """Their sum: [N + 1]."""
        return _before(self.filled, np.float64)

    @cached_property
    def newest(self) -> np.ndarray:
        """The last row that counts, up to each: [N], -1 without one."""
        newest: np.ndarray = np.maximum.accumulate(np.where(self.known, np.arange(len(self.values)), -1))
        return newest

    def count(self, begin: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """Rows that count in `[begin, stop)`: [Q]."""
        found: np.ndarray = stop - begin if self.counts is None else self.counts[stop] - self.counts[begin]
        return found

    def last(self, begin: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """The value of the last row that counts in `[begin, stop)`, NaN without one: [Q]."""
        if not len(self.values):
            return np.full(len(begin), np.nan)
        newest = self.newest[np.maximum(stop - 1, 0)]
        return np.where((newest >= begin) & (stop > begin), self.values[np.maximum(newest, 0)], np.nan)


def order_free_windows(
    aggregations: Sequence[Aggregation], rows: WindowRows, entity: np.ndarray, moments: np.ndarray
) -> dict[str, np.ndarray]:
    """Those of `aggregations` that need no tiles, for every question; as `window_features` gives them.

    Args:
        aggregations: what is asked.
        rows: the rows of all entities.
        entity: [Q] numbers of the entities, -1 for unknown.
        moments: [Q]; fastest where questions are in order of entity and moment.
    """
    names = dict.fromkeys(a.column for a in aggregations if a.function in (*ORDER_FREE, *ADDED))
    columns = {name: _Running(rows.columns.numbers[name] + 0.0) for name in names}  # zero positive, as in tiles
    chosen = [
        a for a in aggregations
        if a.function in ORDER_FREE or (a.function in ADDED and columns[a.column].exact)
    ]
    stop = rows.rows_until(entity, moments) if chosen else None
    begins: dict[tuple[int, int], np.ndarray] = {}
    found = {}
    for a in chosen:
        assert stop is not None
        window = (micros(a.window), micros(a.hop))
        if window not in begins:
            begins[window] = rows.rows_until(entity, (moments - window[0]) // window[1] * window[1])
        begin, column = begins[window], columns[a.column]
        count = column.count(begin, stop)
        if a.function == "last":
            rest = [column.last(begin, stop)]
        else:
            rest = [column.totals[stop] - column.totals[begin]] if a.function in ADDED else []
        found[a.name] = finish(a.function, [count, *rest])
    return found


def _before(values: np.ndarray, kind: type) -> np.ndarray:
    sums: np.ndarray = np.zeros(len(values) + 1, dtype=kind)
    np.add.accumulate(values, out=sums[1:], dtype=kind)
    return sums
