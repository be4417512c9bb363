"""Aggregation windows by one rule, for training and for serving. Pure.

A row belongs to the window of moment `t` when its available time lies in `(start, t]` with `start = t - window`
floored to `hop` (epoch-aligned). Time is cut into tiles: tile `k` covers `(k * hop, (k + 1) * hop]`. The rows of a
tile are folded one by one in their order (available, event, row key); the tiles of a window are folded from the oldest
to the newest; the tile that holds `t`, the head, comes last and only with its rows up to `t`. Floating-point addition
depends on the order, so training and serving must fold alike: both call `window_features`, and results are equal to
the last bit.

Legend: N = rows, M = tiles, Q = questions (an entity at a moment), S = cells. Moments are microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.features.sketches import Entries, Ranges, estimate
from app.features.window_fold import combine, fold_axis, last_between, prefix_sums
from app.features.window_layout import CellLayout, TileLayout, WindowGroup, WindowLayout
from app.spec.features import Aggregation

MAX_CELLS = 8_000_000  # of the gathered array tiles × questions × cells; bounds memory, never the result
FEW_QUESTIONS = 1_000  # up to here, looking for equal questions costs more than answering them


@dataclass(frozen=True)
class Tiles:
    """Tiles of one hop, sorted by `(entity, index)`: entity [M], index [M], cells [M, S]. Entities count from 0.

    `entries`: the sketches of the tiles.
    """

    entity: np.ndarray
    index: np.ndarray
    cells: np.ndarray
    entries: Entries


@dataclass(frozen=True)
class Heads:
    """What the head tile of each question holds up to its moment.

    `cells` [Q, S]. `codes` [slots, N] of all rows, of which `begin` to `stop` [Q] are in a question's head.
    """

    cells: np.ndarray
    codes: np.ndarray
    begin: np.ndarray
    stop: np.ndarray


def tile_index(moments: np.ndarray, hop_us: int) -> np.ndarray:
    """The tile that holds each moment.

    >>> tile_index(np.array([0, 1, 10, 11]), 10).tolist()
    [-1, 0, 0, 1]
    """
    return -(-moments // hop_us) - 1


TilesAndHeads = Callable[[TileLayout], tuple[Tiles, Heads | None]]


def window_features(
    aggregations: Sequence[Aggregation], layout: WindowLayout, entity: np.ndarray, moments: np.ndarray,
    tiles_and_heads: TilesAndHeads,
) -> dict[str, np.ndarray]:
    """Every aggregation for every question; the one function behind training and serving.

    Args:
        aggregations: what is asked.
        layout: of tiles and heads; it covers `aggregations`.
        entity: [Q] numbers of the entities, -1 for unknown.
        moments: [Q].
        tiles_and_heads: gives the tiles of a hop and the heads of the questions. `None` for the heads: the tiles hold
            nothing after any entity's moment, so that the head is among them.

    Returns:
        By name, in no order: int64 for counts, else float64 with NaN where there is none.
    """
    sources: dict[int, tuple[Tiles, Heads | None]] = {}
    tile_layouts = {tile.hop_us: tile for tile in layout.tiles}
    features = {}
    for group in layout.groups(aggregations):
        if group.hop_us not in sources:
            sources[group.hop_us] = tiles_and_heads(tile_layouts[group.hop_us])
        if group.features:
            cells = window_cells(group, *sources[group.hop_us], entity, moments)
            for name, function, places in group.features:
                features[name] = finish(function, [cells[:, place] for place in places])
        for name, slot, quantile in group.sketched:
            kind = tile_layouts[group.hop_us].kinds[slot]
            ranges = window_entries(group, slot, *sources[group.hop_us], entity, moments)
            features[name] = estimate(kind, quantile, ranges)
    return features


def window_cells(
    group: WindowGroup, tiles: Tiles, heads: Heads | None, entity: np.ndarray, moments: np.ndarray
) -> np.ndarray:
    """Cells [Q, S of the group] of the windows that end at `moments`; see `window_features`."""
    head = tile_index(moments, group.hop_us)
    first = (moments - group.window_us) // group.hop_us
    whole = np.array_equal(group.chosen, np.arange(tiles.cells.shape[1]))
    cells = tiles.cells if whole else tiles.cells[:, group.chosen]
    chosen = replace(tiles, cells=cells)
    if heads is None:
        return fold_tiles(chosen, group.cells, entity, first, head + 1)
    if len(entity) <= FEW_QUESTIONS:
        folded = fold_tiles(chosen, group.cells, entity, first, head)
    else:  # one of two for each head: on the tile's edge and inside it
        low = head.min()
        question = (entity * (head.max() - low + 1) + head - low) * 2 + (moments % group.hop_us == 0)
        _, at, inverse = np.unique(question, return_index=True, return_inverse=True)
        folded = fold_tiles(chosen, group.cells, entity[at], first[at], head[at])[inverse]
    return combine(group.cells, folded, heads.cells[:, group.chosen])


def window_entries(
    group: WindowGroup, slot: int, tiles: Tiles, heads: Heads | None, entity: np.ndarray, moments: np.ndarray
) -> list[Ranges]:
    """The entries of one sketch that belong to the windows that end at `moments`; see `window_features`."""
    head = tile_index(moments, group.hop_us)
    first = (moments - group.window_us) // group.hop_us
    entries = tiles.entries.where(tiles.entries.slot == slot)
    end = head + 1 if heads is None else head
    begin, stop = tile_ranges(entries.entity, entries.index, entity, first, end)
    of_tiles = Ranges(entries.code, entries.weight, begin, stop)
    if heads is None:
        return [of_tiles]
    codes = heads.codes[slot]
    return [of_tiles, Ranges(codes, np.ones_like(codes), heads.begin, heads.stop)]


def fold_tiles(
    tiles: Tiles, layout: CellLayout, entity: np.ndarray, first: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Cells of the tiles `[first, end)` of each asked entity, oldest first. Shape [Q, S]; entity -1 has none."""
    result = np.empty((len(entity), len(layout)))
    result[:] = layout.empty
    begin, stop = tile_ranges(tiles.entity, tiles.index, entity, first, end)
    width = int((stop - begin).max()) if len(entity) else 0
    if width == 0:
        return result
    prefixes = prefix_sums(layout, tiles.cells) if len(entity) > FEW_QUESTIONS else None
    if prefixes is not None and layout.sums.stop == layout.lasts.start:  # sums and last values: no tile is walked
        result[:, layout.sums] = prefixes[np.maximum(stop, begin)] - prefixes[begin]
        result[:, layout.lasts] = last_between(tiles.cells[:, layout.lasts], begin, stop)
        return result
    padded = np.concatenate([tiles.cells, layout.empty[None]])  # the last one stands for no tile
    step = np.arange(width)[:, None]
    chunk = max(MAX_CELLS // (width * len(layout)), 1)
    for start in range(0, len(begin), chunk):
        part = slice(start, start + chunk)
        at = begin[part] + step
        gathered = np.take(padded, np.where(at < stop[part], at, len(padded) - 1), axis=0)
        result[part] = fold_axis(layout, gathered)
    return result


def tile_ranges(
    entities: np.ndarray, indices: np.ndarray, entity: np.ndarray, first: np.ndarray, end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where the tiles `[first, end)` of each asked entity lie among tiles sorted by `(entities, indices)`: [Q] each."""
    if len(indices) == 0 or len(entity) == 0:
        nothing = np.zeros(len(entity), dtype=np.int64)
        return nothing, nothing
    low = int(indices.min())
    span = int(indices.max()) - low + 2
    positions = entities * span + (indices - low)
    begin = np.searchsorted(positions, entity * span + np.minimum(np.maximum(first - low, 0), span - 1))
    stop = np.searchsorted(positions, entity * span + np.minimum(np.maximum(end - low, 0), span - 1))
    return begin, stop


def finish(function: str, statistics: Sequence[np.ndarray]) -> np.ndarray:
    """The aggregate out of its statistics, the count first. `std` is the sample's (n - 1).

    >>> finish("mean", [np.array([0.0, 2.0]), np.array([0.0, 5.0])]).tolist()
    [nan, 2.5]
    """
    count = statistics[0]
    if function == "count":
        return count.astype(np.int64)
    if function == "mean":
        return np.where(count > 0, statistics[1] / np.maximum(count, 1), np.nan)
    if function == "std":
        known = (count > 1) & np.isfinite(statistics[2])
        return np.where(known, np.sqrt(statistics[2] / np.maximum(count - 1, 1)), np.nan)
    return np.where(count > 0, statistics[1], np.nan)
