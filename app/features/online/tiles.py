"""State of an entity of a view with windows: the tiles of each hop as bytes. Pure.

Layout: rows of equal width, in words of 8 bytes. The first row is the newest available time and the number of tiles of
each hop; then the tiles of each hop follow, each an index and its cells, padded to the width. So the states of many
entities, one behind the other, are one matrix. Legend: K = entities, M = tiles, S = cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.features.window_layout import TileLayout, WindowLayout
from app.features.windows import Tiles

NOTHING = np.iinfo(np.int64).min


@dataclass(frozen=True)
class TileStates:
    """States of K entities: the newest available time of each [K] (`NOTHING` for an unknown one), tiles by hop."""

    newest_us: np.ndarray
    tiles: tuple[Tiles, ...]


def unpack_states(layout: WindowLayout, states: Sequence[bytes | None]) -> TileStates:
    """States as arrays; entity `i` is the `i`-th state."""
    width = _width(layout)
    known = [state for state in states if state is not None]
    rows = np.frombuffer(b"".join(known), dtype=np.int64).reshape(-1, width)
    num_rows = np.fromiter(map(len, known), dtype=np.int64, count=len(known)) // (8 * width)
    first = np.cumsum(num_rows) - num_rows
    entities = np.arange(len(states))
    newest = np.full(len(states), NOTHING)
    if len(known) < len(states):
        entities = np.array([i for i, state in enumerate(states) if state is not None], dtype=np.int64)
    newest[entities] = rows[first, 0]
    counts = rows[first, 1 : 1 + len(layout.tiles)]
    start = first + 1
    tiles = []
    for hop, tile in enumerate(layout.tiles):
        tiles.append(_tiles(tile, rows, entities, start, counts[:, hop]))
        start = start + counts[:, hop]
    return TileStates(newest, tuple(tiles))


def _tiles(
    layout: TileLayout, rows: np.ndarray, entities: np.ndarray, start: np.ndarray, counts: np.ndarray
) -> Tiles:
    """Tiles of one hop: of each entity `counts` rows from `start` on."""
    shift = start - (np.cumsum(counts) - counts)
    chosen = np.take(rows, np.arange(int(counts.sum())) + np.repeat(shift, counts), axis=0)
    cells = chosen.view(np.float64)[:, 1 : 1 + len(layout.cells)]
    return Tiles(np.repeat(entities, counts), chosen[:, 0], cells)


def pack_states(layout: WindowLayout, states: TileStates) -> list[bytes]:
    """The inverse of `unpack_states`, for entities that are all known."""
    num_entities, num_hops, width = len(states.newest_us), len(layout.tiles), _width(layout)
    bounds = [np.searchsorted(tiles.entity, np.arange(num_entities + 1)) for tiles in states.tiles]
    counts = np.array([np.diff(of_hop) for of_hop in bounds], dtype=np.int64).reshape(num_hops, num_entities)
    end = np.cumsum(1 + counts.sum(axis=0))
    start = np.append(0, end)[:-1]
    rows = np.zeros((int(end[-1]) if num_entities else 0, width), dtype=np.int64)
    rows[start, 0] = states.newest_us
    rows[start, 1 : 1 + num_hops] = counts.T
    place = start + 1
    for hop, tiles in enumerate(states.tiles):
        at = np.arange(len(tiles.index)) + np.repeat(place - bounds[hop][:-1], counts[hop])
        rows[at, 0] = tiles.index
        rows[at, 1 : 1 + tiles.cells.shape[1]] = tiles.cells.view(np.int64)
        place = place + counts[hop]
    data, row_bytes = rows.tobytes(), 8 * width
    return [data[a * row_bytes : b * row_bytes] for a, b in zip(start.tolist(), end.tolist(), strict=True)]


def _width(layout: WindowLayout) -> int:
    return 1 + max(len(layout.tiles), *(len(tile.cells) for tile in layout.tiles))
