"""Aggregation windows by one rule, for training and for serving. Pure.

A row belongs to the window of moment `t` when its available time lies in `(start, t]` with `start = t - window`
floored to `hop` (epoch-aligned). Time is cut into tiles: tile `k` covers `(k * hop, (k + 1) * hop]`. The rows of a
tile are folded one by one in their order (available, event, row key); the tiles of a window are folded from the oldest
to the newest; the tile that holds `t`, the head, comes last and only with its rows up to `t`. Floating-point addition
depends on the order, so training and serving must fold alike: both call `window_features`, and results are equal to
the last bit.

Legend: N = rows, M = tiles, Q = questions (an entity at a moment). Moments are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta

import numpy as np

from app.spec.features import Aggregation, AggregationFunction

MAX_CELLS = 4_000_000  # of the gathered matrix questions × tiles; bounds memory, never the result


@dataclass(frozen=True)
class Partials:
    """What is known of some rows of one column; arrays of one length. Nulls of the column count as no row."""

    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    last: np.ndarray

    def take(self, index: np.ndarray) -> Partials:
        """Entries by position; `-1` gives the partials of no rows."""
        empty = EMPTY
        return Partials(
            *(np.where(index < 0, empty[f.name], _padded(getattr(self, f.name), empty[f.name])[index])
              for f in fields(self))
        )


EMPTY = {"count": 0, "total": 0.0, "squares": 0.0, "minimum": np.inf, "maximum": -np.inf, "last": np.nan}


@dataclass(frozen=True)
class Tiles:
    """Tiles of one column and hop, sorted by `(entity, index)`: shape [M]. `entity` is a number from 0."""

    entity: np.ndarray
    index: np.ndarray
    partials: Partials


def micros(duration: timedelta) -> int:
    """Whole microseconds of a duration."""
    return duration // timedelta(microseconds=1)


def tile_index(moments: np.ndarray, hop_us: int) -> np.ndarray:
    """The tile that holds each moment.

    >>> tile_index(np.array([0, 1, 10, 11]), 10).tolist()
    [-1, 0, 0, 1]
    """
    return -(-moments // hop_us) - 1


def running_partials(values: np.ndarray, segment_starts: np.ndarray) -> Partials:
    """Partials of each row and those before it in its segment, folded one by one.

    Args:
        values: [N] float64, NaN where null.
        segment_starts: position of the first row of each segment, increasing, the first 0 (empty when N = 0).
    """
    known = ~np.isnan(values)
    counted = np.cumsum(known)
    lengths = np.diff(np.append(segment_starts, len(values)))
    before = np.repeat(counted[segment_starts] - known[segment_starts], lengths)
    filled = np.where(known, values, 0.0)
    position = np.where(known, np.arange(len(values)), -1)
    last_known = segmented_accumulate(np.maximum, position, segment_starts)
    return Partials(
        count=counted - before,
        total=segmented_accumulate(np.add, filled, segment_starts),
        squares=segmented_accumulate(np.add, filled * filled, segment_starts),
        minimum=segmented_accumulate(np.minimum, np.where(known, values, np.inf), segment_starts),
        maximum=segmented_accumulate(np.maximum, np.where(known, values, -np.inf), segment_starts),
        last=np.where(last_known < 0, np.nan, _padded(values, np.nan)[last_known]),
    )


def segmented_accumulate(operation: np.ufunc, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`operation.accumulate` within each segment, strictly from left to right.

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
        result[rest] = operation.accumulate(result[rest])
    return result


def merge(left: Partials, right: Partials) -> Partials:
    """Partials of the rows of both, those of `left` before those of `right`."""
    return Partials(
        count=left.count + right.count,
        total=left.total + right.total,
        squares=left.squares + right.squares,
        minimum=np.minimum(left.minimum, right.minimum),
        maximum=np.maximum(left.maximum, right.maximum),
        last=np.where(np.isnan(right.last), left.last, right.last),
    )


def fold_tiles(tiles: Tiles, entity: np.ndarray, first: np.ndarray, end: np.ndarray) -> Partials:
    """Partials of the tiles `[first, end)` of each asked entity, oldest first. Shape [Q]; entity -1 has none."""
    if len(tiles.index) == 0 or len(entity) == 0:
        return tiles.partials.take(np.full(len(entity), -1))
    low = int(tiles.index.min())
    span = int(tiles.index.max()) - low + 2
    positions = tiles.entity * span + (tiles.index - low)
    begin = np.searchsorted(positions, entity * span + np.clip(first - low, 0, span - 1))
    stop = np.searchsorted(positions, entity * span + np.clip(end - low, 0, span - 1))
    width = max(int((stop - begin).max()), 1)
    chunk = max(MAX_CELLS // width, 1)
    parts = [
        _fold(tiles.partials, begin[i : i + chunk], stop[i : i + chunk]) for i in range(0, len(begin), chunk)
    ]
    return Partials(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Partials)))


def _fold(partials: Partials, begin: np.ndarray, stop: np.ndarray) -> Partials:
    width = max(int((stop - begin).max()), 1)
    at = begin[:, None] + np.arange(width)
    cells = partials.take(np.where(at < stop[:, None], at, -1))
    newest = np.where(np.isnan(cells.last), -1, np.arange(width)).max(axis=1)
    last = cells.last[np.arange(len(begin)), newest]  # -1 takes the last cell, NaN as all are
    return Partials(
        count=cells.count.sum(axis=1),
        total=np.add.accumulate(cells.total, axis=1)[:, -1],
        squares=np.add.accumulate(cells.squares, axis=1)[:, -1],
        minimum=cells.minimum.min(axis=1),
        maximum=cells.maximum.max(axis=1),
        last=last,
    )


def window_partials(
    tiles: Tiles, heads: Partials, entity: np.ndarray, moments: np.ndarray, window_us: int, hop_us: int
) -> Partials:
    """Partials of the windows that end at `moments`.

    Args:
        tiles: complete tiles (those after a moment are not read for it).
        heads: [Q] partials of the rows of the tile that holds each moment, up to the moment.
        entity: [Q] numbers as in `tiles`; -1 is an unknown entity.
        moments: [Q].
    """
    if len(entity) == 0:
        return heads
    head = tile_index(moments, hop_us)
    first = (moments - window_us) // hop_us  # one of two for each head: on the tile's edge and inside it
    low = head.min()
    question = (entity * (head.max() - low + 1) + head - low) * 2 + (moments % hop_us == 0)
    _, at, inverse = np.unique(question, return_index=True, return_inverse=True)
    folded = fold_tiles(tiles, entity[at], first[at], head[at])
    return merge(folded.take(inverse), heads)


def finish(function: AggregationFunction, partials: Partials) -> np.ndarray:
    """The aggregate: int64 for `count`, else float64 with NaN where there is none. `std` is the sample's (n - 1)."""
    if function == "count":
        return np.asarray(partials.count, dtype=np.int64)
    return np.asarray(np.where(partials.count > 0, _FINISH[function](partials), np.nan))


def _mean(partials: Partials) -> np.ndarray:
    return np.asarray(partials.total / np.maximum(partials.count, 1))


def _std(partials: Partials) -> np.ndarray:
    n = partials.count
    spread = partials.squares - partials.total * partials.total / np.maximum(n, 1)
    noise = partials.squares * n * np.finfo(np.float64).eps  # what rounding alone can leave
    variance = np.where(spread <= noise, 0.0, spread) / np.maximum(n - 1, 1)
    return np.where(n > 1, np.sqrt(variance), np.nan)


_FINISH: dict[str, Callable[[Partials], np.ndarray]] = {
    "sum": lambda partials: partials.total,
    "mean": _mean,
    "min": lambda partials: partials.minimum,
    "max": lambda partials: partials.maximum,
    "std": _std,
    "last": lambda partials: partials.last,
}

TilesAndHeads = Callable[[str, int], tuple[Tiles, Partials]]


def window_features(
    aggregations: Sequence[Aggregation], entity: np.ndarray, moments: np.ndarray, tiles_and_heads: TilesAndHeads
) -> dict[str, np.ndarray]:
    """Every aggregation for every question; the one function behind training and serving.

    Args:
        aggregations: what is asked.
        entity: [Q] numbers of the entities, -1 for unknown.
        moments: [Q].
        tiles_and_heads: gives the tiles of `(column, hop in microseconds)` and the head partials [Q].
    """
    sources: dict[tuple[str, int], tuple[Tiles, Partials]] = {}
    windows: dict[tuple[str, int, int], Partials] = {}
    features = {}
    for aggregation in aggregations:
        hop_us, window_us = micros(aggregation.hop), micros(aggregation.window)
        source = (aggregation.column, hop_us)
        if source not in sources:
            sources[source] = tiles_and_heads(*source)
        if (*source, window_us) not in windows:
            tiles, heads = sources[source]
            windows[(*source, window_us)] = window_partials(tiles, heads, entity, moments, window_us, hop_us)
        features[aggregation.name] = finish(aggregation.function, windows[(*source, window_us)])
    return features


def _padded(values: np.ndarray, empty: float) -> np.ndarray:
    """`values` with one further entry, which `-1` finds, so that a gather works on an empty array too."""
    padded: np.ndarray = np.append(values, np.asarray(empty, dtype=values.dtype))
    return padded
