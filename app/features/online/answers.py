"""Answers out of states: what an entity's windows were at a moment.

A state answers for any moment from its newest row on. For an earlier one its tiles are fetched too, and the rows of the
tile that holds the moment; and for a moment at which a row counted that has been replaced since, the rows of all its
windows. Those are further round trips, for such entities alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from app.features.online.base import OnlineStore, Span, StoredRows
from app.features.online.folded_state import StateReader
from app.features.online.tiles import unpack_tiles
from app.features.sketches import Entries, estimate, merged_entries
from app.features.window_fold import lift, running
from app.features.window_layout import TileLayout, WindowLayout
from app.features.window_rows import RowColumns, WindowRows, row_entries, segment_ends, segment_starts
from app.features.windows import Tiles, finish, tile_index, window_entries, window_features
from app.spec.features import Aggregation

Values = dict[str, np.ndarray]


def window_values(
    store: OnlineStore, table: str, reader: StateReader, aggregations: Sequence[Aggregation], keys: Sequence[str],
    at_us: int,
) -> Values:
    """Every aggregation at a moment, by name: one value for each key, as `window_features` gives them.

    `reader`: of the keys' states.
    """
    layout = reader.layout
    found = _of_states(reader, layout, aggregations, len(keys), at_us)
    replaced = reader.replaced_us > at_us
    behind = (reader.newest_us > at_us) & ~replaced
    for places, answer in ((replaced, _of_rows), (behind, _of_tiles)):
        at = np.flatnonzero(places)
        if len(at):
            values = answer(store, table, layout, aggregations, [keys[i] for i in at.tolist()], at_us)
            for name, column in values.items():
                found[name][at] = column
    return found


def _of_states(
    reader: StateReader, layout: WindowLayout, aggregations: Sequence[Aggregation], num_keys: int, at_us: int
) -> Values:
    found = {}
    hops = {tile.hop_us: number for number, tile in enumerate(layout.tiles)}
    entity, moments = np.arange(num_keys), np.full(num_keys, at_us)
    for group in layout.groups(aggregations):
        hop = hops[group.hop_us]
        if group.features:
            cells = reader.cells(hop, group, at_us)
            for name, function, places in group.features:
                found[name] = finish(function, [cells[:, place] for place in places])
        for name, slot, quantile in group.sketched:
            tiles = _without_cells(reader.entries(hop))
            ranges = window_entries(group, slot, tiles, None, entity, moments)
            found[name] = estimate(layout.tiles[hop].kinds[slot], quantile, ranges)
    return found


def _without_cells(entries: Entries) -> Tiles:
    nothing = np.empty(0, dtype=np.int64)
    return Tiles(nothing, nothing, np.empty((0, 0)), entries)


def _of_rows(
    store: OnlineStore, table: str, layout: WindowLayout, aggregations: Sequence[Aggregation], keys: Sequence[str],
    at_us: int,
) -> Values:
    """From the rows that counted at the moment, as in training."""
    reach_us = max(tile.longest_us + tile.hop_us for tile in layout.tiles)
    rows = _alive(store.rows(table, [Span(key, at_us - reach_us, at_us) for key in keys], layout.num_words), at_us)
    place = {key: i for i, key in enumerate(keys)}
    entity = np.array([place[key] for key in rows.keys], dtype=np.int64)
    order = _order(rows, entity)
    columns = RowColumns.of_words(layout, rows.values[order])
    table_rows = WindowRows(entity[order], rows.available_us[order], columns)
    asked, moments = np.arange(len(keys)), np.full(len(keys), at_us)
    return window_features(
        aggregations, layout, asked, moments, lambda tile: table_rows.tiles_and_heads(tile, asked, moments)
    )


def _of_tiles(
    store: OnlineStore, table: str, layout: WindowLayout, aggregations: Sequence[Aggregation], keys: Sequence[str],
    at_us: int,
) -> Values:
    """From the tiles before the one that holds the moment, and that one out of rows."""
    after_us = min(_head(at_us, tile.hop_us) * tile.hop_us for tile in layout.tiles)
    by_hop = dict(zip((t.hop_us for t in layout.tiles), unpack_tiles(layout, store.tiles(table, keys)), strict=True))
    rows = _alive(store.rows(table, [Span(key, after_us, at_us) for key in keys], layout.num_words), at_us)
    asked, moments = np.arange(len(keys)), np.full(len(keys), at_us)
    place = {key: i for i, key in enumerate(keys)}
    entity = np.array([place[key] for key in rows.keys], dtype=np.int64)
    return window_features(
        aggregations, layout, asked, moments,
        lambda tile: (_cut(layout, tile, by_hop[tile.hop_us], rows, entity, _head(at_us, tile.hop_us)), None),
    )


def _cut(
    layout: WindowLayout, tile: TileLayout, tiles: Tiles, rows: StoredRows, entity: np.ndarray, head: int
) -> Tiles:
    """Tiles before the head, and the head out of rows."""
    in_head = rows.take(np.flatnonzero(tile_index(rows.available_us, tile.hop_us) == head))
    owner = entity[tile_index(rows.available_us, tile.hop_us) == head]
    order = _order(in_head, owner)
    owner = owner[order]
    columns = RowColumns.of_words(layout, in_head.values[order])
    starts = segment_starts(owner, np.zeros_like(owner))
    ends = segment_ends(starts, len(owner))
    heads = running(tile.cells, lift(tile.cells, columns.numbers, len(owner)), starts)[ends]
    stays = tiles.index < head
    entities = np.concatenate([tiles.entity[stays], owner[ends]])
    index = np.concatenate([tiles.index[stays], np.full(len(ends), head)])
    order = np.lexsort((index, entities))
    old = tiles.entries.where(tiles.entries.index < head)
    of_head = row_entries(columns.codes(tile, len(owner)), owner, np.full(len(owner), head))
    entries = merged_entries(tile.kinds, [old, of_head])
    return Tiles(entities[order], index[order], np.concatenate([tiles.cells[stays], heads])[order], entries)


def _alive(rows: StoredRows, at_us: int) -> StoredRows:
    return rows.take(np.flatnonzero(rows.until_us > at_us))


def _order(rows: StoredRows, entity: np.ndarray) -> np.ndarray:
    """Positions in the order in which training folds rows."""
    if not len(entity):
        return np.empty(0, dtype=np.int64)
    row_keys = pl.Series(rows.row_keys, dtype=pl.String)
    return np.lexsort((row_keys.rank("dense").to_numpy(), rows.event_us, rows.available_us, entity))


def _head(at_us: int, hop_us: int) -> int:
    """`tile_index` of one moment."""
    return -(-at_us // hop_us) - 1
