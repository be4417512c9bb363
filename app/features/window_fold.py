"""Cells of rows and tiles, folded strictly from left to right. Pure.

Legend: N = rows, S = cells. Nulls (NaN) of a column count as no row. Zero is always positive, so that a sum has the
same bits however many empty tiles it passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from app.features.window_layout import CellLayout
from app.features.window_moments import Moments, both, folded_moments, running_moments

MAX_EXACT = 2.0**53  # whole numbers up to here are exact in float64


def lift(layout: CellLayout, values: Mapping[str, np.ndarray], num_rows: int) -> np.ndarray:
    """Cells of single rows: [N, S].

    Args:
        layout: which cells.
        values: float64 columns [N] by name, NaN where null.
        num_rows: N.
    """
    cells = np.empty((num_rows, len(layout)))
    for place, (column, statistic) in enumerate(layout.cells):
        cells[:, place] = _LIFT[statistic](values[column] + 0.0)
    return cells


_LIFT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "count": lambda v: ~np.isnan(v),
    "total": lambda v: np.where(np.isnan(v), 0.0, v),
    "mean": lambda v: np.where(np.isnan(v), 0.0, v),
    "deviations": np.zeros_like,
    "minimum": lambda v: np.where(np.isnan(v), np.inf, v),
    "maximum": lambda v: np.where(np.isnan(v), -np.inf, v),
    "last": lambda v: v,
}


def running(layout: CellLayout, cells: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Cells of each row and those before it in its segment, folded one by one: [N, S].

    Args:
        layout: of the cells.
        cells: [N, S].
        starts: position of the first row of each segment, increasing, the first 0 (empty when N = 0).
    """
    result = np.empty_like(cells)
    for operation, part in ((np.add, layout.sums), (np.minimum, layout.minima), (np.maximum, layout.maxima)):
        if part.start < part.stop:
            result[:, part] = segmented_accumulate(operation, cells[:, part], starts)
    if layout.moments is not None:
        totals = _moments(layout, result).count
        _set_moments(layout, result, running_moments(_moments(layout, cells), totals, starts))
    if layout.lasts.start < layout.lasts.stop:
        values = cells[:, layout.lasts]
        own = np.arange(len(cells))[:, None]
        known = segmented_accumulate(np.maximum, np.where(np.isnan(values), -1, own), starts)
        result[:, layout.lasts] = np.take_along_axis(values, np.where(known < 0, own, known), axis=0)
    return result


def fold_axis(layout: CellLayout, cells: np.ndarray) -> np.ndarray:
    """Folds the first axis of `[W, Q, S]` (W at least 1), giving `[Q, S]`."""
    result = np.empty(cells.shape[1:])
    if layout.sums.start < layout.sums.stop:
        total = cells[0].copy()  # of all cells, because whole rows are added faster than parts of them
        with np.errstate(invalid="ignore", over="ignore"):
            for step in cells[1:]:
                total += step
        result[:, layout.sums] = total[:, layout.sums]
    if layout.moments is not None:
        _set_moments(layout, result, folded_moments(_moments(layout, cells)))
    for operation, part in ((np.minimum, layout.minima), (np.maximum, layout.maxima)):
        if part.start < part.stop:
            result[:, part] = operation.reduce(cells[:, :, part], axis=0)
    if layout.lasts.start < layout.lasts.stop:
        values = cells[:, :, layout.lasts]
        newest = np.where(np.isnan(values), -1, np.arange(len(values))[:, None, None]).max(axis=0)
        result[:, layout.lasts] = np.take_along_axis(values, newest[None], axis=0)[0]  # -1: NaN, as all are
    return result


def prefix_sums(layout: CellLayout, cells: np.ndarray) -> np.ndarray | None:
    """Sums of the cells before each position, [N + 1, sums], where that gives the bits a fold would; else `None`.

    Whole numbers below 2**53 are added without rounding, so every order gives the same sum and a difference of two
    prefixes is the fold between them.
    """
    sums = cells[:, layout.sums]
    if not (np.rint(sums) == sums).all() or np.abs(sums).sum() >= MAX_EXACT:
        return None
    prefixes = np.zeros((len(sums) + 1, sums.shape[1]))
    np.add.accumulate(sums, axis=0, out=prefixes[1:])
    return prefixes


def last_between(values: np.ndarray, begin: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """The last value that is known in `[begin, stop)` of each column of [N, L]: [Q, L], NaN without one."""
    known = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    newest = np.maximum.accumulate(known, axis=0)[np.maximum(stop - 1, 0)]
    found = np.take_along_axis(values, np.maximum(newest, 0), axis=0)
    return np.where((newest >= begin[:, None]) & (stop > begin)[:, None], found, np.nan)


def combine(layout: CellLayout, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cells of the rows of both, those of `left` before those of `right`."""
    result = np.empty_like(left)
    result[:, layout.sums] = left[:, layout.sums] + right[:, layout.sums]
    if layout.moments is not None:
        _set_moments(layout, result, both(_moments(layout, left), _moments(layout, right)))
    result[:, layout.minima] = np.minimum(left[:, layout.minima], right[:, layout.minima])
    result[:, layout.maxima] = np.maximum(left[:, layout.maxima], right[:, layout.maxima])
    newer = right[:, layout.lasts]
    result[:, layout.lasts] = np.where(np.isnan(newer), left[:, layout.lasts], newer)
    return result


def _moments(layout: CellLayout, cells: np.ndarray) -> Moments:
    """The moments among cells of shape […, S]."""
    assert layout.moments is not None
    return Moments(*(cells[..., places] for places in layout.moments))


def _set_moments(layout: CellLayout, cells: np.ndarray, moments: Moments) -> None:
    """Writes means and deviations; the counts are there."""
    assert layout.moments is not None
    _, mean, deviations = layout.moments
    cells[:, mean], cells[:, deviations] = moments.mean, moments.deviations


def segmented_accumulate(operation: np.ufunc, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`operation.accumulate` along the first axis within each segment, strictly from left to right.

    >>> segmented_accumulate(np.add, np.array([1., 2., 3., 4.]), np.array([0, 3])).tolist()
    [1.0, 3.0, 6.0, 4.0]
    """
    result = values.copy()
    lengths = np.diff(np.append(starts, len(values)))
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    step, ascending = 1, -lengths
    while True:
        active = int(np.searchsorted(ascending, -step, side="left"))  # segments longer than `step`
        if active < 8:
            break
        at = starts[:active] + step
        result[at] = operation(result[at - 1], result[at])
        step += 1
    for start, length in zip(starts[:active], lengths[:active], strict=True):
        rest = slice(start + step - 1, start + length)
        result[rest] = operation.accumulate(result[rest], axis=0)
    return result
