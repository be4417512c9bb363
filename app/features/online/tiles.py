"""State of an entity of a view with windows: the tiles of each hop as bytes. Pure.

Layout, in words of 8 bytes: the newest available time, the number of tiles of each hop, then for each hop its tiles,
each an index and its cells. Legend: K = entities, M = tiles, S = cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct

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
    head = Struct(f"<{1 + len(layout.tiles)}q")
    row_bytes = [8 * (1 + len(tile.cells)) for tile in layout.tiles]
    newest = np.full(len(states), NOTHING)
    known: list[int] = []
    counts: list[tuple[int, ...]] = []
    pieces: list[list[bytes]] = [[] for _ in layout.tiles]
    for place, state in enumerate(states):
        if state is None:
            continue
        newest_us, *num_tiles = head.unpack_from(state)
        newest[place] = newest_us
        known.append(place)
        counts.append(tuple(num_tiles))
        start = head.size
        for hop, count in enumerate(num_tiles):
            end = start + count * row_bytes[hop]
            pieces[hop].append(state[start:end])
            start = end
    of_hop = np.array(counts, dtype=np.int64).reshape(len(known), len(layout.tiles))
    entities = np.array(known, dtype=np.int64)
    return TileStates(
        newest,
        tuple(_tiles(tile, entities, of_hop[:, hop], pieces[hop]) for hop, tile in enumerate(layout.tiles)),
    )


def _tiles(layout: TileLayout, entities: np.ndarray, counts: np.ndarray, pieces: Sequence[bytes]) -> Tiles:
    words = np.frombuffer(b"".join(pieces)).reshape(-1, 1 + len(layout.cells))
    return Tiles(np.repeat(entities, counts), words.view(np.int64)[:, 0], words[:, 1:])


def pack_states(states: TileStates) -> list[bytes]:
    """The inverse of `unpack_states`, for entities that are all known."""
    num_entities = len(states.newest_us)
    counts = np.empty((num_entities, 1 + len(states.tiles)), dtype=np.int64)
    counts[:, 0] = states.newest_us
    bodies = []
    for hop, tiles in enumerate(states.tiles):
        bounds = np.searchsorted(tiles.entity, np.arange(num_entities + 1))
        counts[:, 1 + hop] = np.diff(bounds)
        words = np.empty((len(tiles.index), 1 + tiles.cells.shape[1]), dtype=np.int64)
        words[:, 0] = tiles.index
        words[:, 1:] = tiles.cells.view(np.int64)
        row_bytes = words.shape[1] * 8
        body = words.tobytes()
        bodies.append([body[a * row_bytes : b * row_bytes] for a, b in pairwise(bounds)])
    heads = [row.tobytes() for row in counts]
    return [b"".join(parts) for parts in zip(heads, *bodies, strict=True)]
