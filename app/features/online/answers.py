"""Answers out of states: what an entity's features were at a moment.

A state answers for any moment from its newest row on. For an earlier one the rows of the tile that holds the moment
are fetched too, which is a second round trip, for those entities alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.features.online.base import OnlineStore, Span, StoredRows
from app.features.online.tiles import unpack_states
from app.features.sketches import merged
from app.features.window_fold import lift, running
from app.features.window_layout import TileLayout, WindowLayout
from app.features.window_rows import RowColumns, row_entries, segment_ends, segment_starts
from app.features.windows import Tiles, tile_index


def tiles_at(
    store: OnlineStore, table: str, layout: WindowLayout, keys: Sequence[str], states: Sequence[bytes | None],
    at_us: int,
) -> dict[int, Tiles]:
    """Tiles by hop with nothing in them that came after `at_us`; entity `i` is the `i`-th key."""
    unpacked = unpack_states(layout, states)
    by_hop = {tile.hop_us: tiles for tile, tiles in zip(layout.tiles, unpacked.tiles, strict=True)}
    behind: list[int] = np.flatnonzero(unpacked.newest_us > at_us).tolist()
    if not behind:
        return by_hop
    after_us = min(_head(at_us, tile.hop_us) * tile.hop_us for tile in layout.tiles)
    rows = store.rows(table, [Span(keys[i], after_us, at_us) for i in behind], layout.num_words)
    place = {keys[i]: i for i in behind}
    entity = np.array([place[key] for key in rows.keys], dtype=np.int64)
    columns = RowColumns.of_words(layout, rows.values)
    is_behind = np.zeros(len(keys), dtype=bool)
    is_behind[behind] = True
    return {
        tile.hop_us: _cut(tile, by_hop[tile.hop_us], columns, rows, entity, is_behind, _head(at_us, tile.hop_us))
        for tile in layout.tiles
    }


def _cut(
    layout: TileLayout, tiles: Tiles, columns: RowColumns, rows: StoredRows, entity: np.ndarray,
    is_behind: np.ndarray, head: int,
) -> Tiles:
    """Tiles of the entities that are behind: those before the head, and the head out of rows."""
    in_head = np.flatnonzero(tile_index(rows.available_us, layout.hop_us) == head)
    row_keys = np.array([rows.row_keys[i] for i in in_head.tolist()], dtype=np.str_)
    of_head = in_head[np.lexsort((row_keys, rows.event_us[in_head], rows.available_us[in_head], entity[in_head]))]
    owner = entity[of_head]
    starts = segment_starts(owner, np.zeros_like(owner))
    ends = segment_ends(starts, len(owner))
    numbers = {name: values[of_head] for name, values in columns.numbers.items()}
    heads = running(layout.cells, lift(layout.cells, numbers, len(owner)), starts)[ends]
    stays = ~is_behind[tiles.entity] | (tiles.index < head)
    entities = np.concatenate([tiles.entity[stays], owner[ends]])
    index = np.concatenate([tiles.index[stays], np.full(len(ends), head)])
    order = np.lexsort((index, entities))
    old = tiles.entries.where(~is_behind[tiles.entries.entity] | (tiles.entries.index < head))
    codes = columns.codes(layout, len(rows.keys))[:, of_head]
    entries = merged(layout.kinds, [old, row_entries(codes, owner, np.full(len(owner), head))])
    return Tiles(entities[order], index[order], np.concatenate([tiles.cells[stays], heads])[order], entries)


def _head(at_us: int, hop_us: int) -> int:
    """`tile_index` of one moment."""
    return -(-at_us // hop_us) - 1
