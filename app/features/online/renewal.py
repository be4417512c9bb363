"""What a batch of rows changes in the tiles and states of its entities. Pure: a store reads, asks here, and writes.

A row that is newer than everything its entity has goes onto the last tile: folding it onto the tile's cells gives the
same bits as folding the tile anew, and the state is folded on. Any other row (late, repeated, corrected, moved to
another entity) has its tiles computed anew from the rows, and the state from the tiles.

Legend: K = touched entities, N = rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.features.online.base import FOREVER_US, Span, StoredRows
from app.features.online.folded_state import (
    UNKNOWN,
    FoldedHop,
    FoldedStates,
    StateReader,
    Tails,
    fold_on,
    pack_folded,
)
from app.features.online.row_versions import Intake
from app.features.online.tiles import pack_tiles, unpack_tiles
from app.features.sketches import Entries, merged_entries
from app.features.window_fold import lift, running
from app.features.window_layout import TileLayout, WindowLayout
from app.features.window_rows import RowColumns, row_entries, segment_ends, segment_starts
from app.features.windows import Tiles, tile_index


@dataclass(frozen=True)
class Renewal:
    """What is now kept of the touched entities, and from when on each one's rows are needed (`None`: as before)."""

    keys: tuple[str, ...]
    states: tuple[bytes, ...]
    tiles: tuple[bytes, ...]
    rows_after_us: tuple[int | None, ...]


class Renewing:
    """The step from what was kept of the entities to what is kept now.

    Args:
        intake: what comes.
        states: old states of `intake.keys`, in that order.
        tiles: their old tiles.
    """

    def __init__(self, intake: Intake, states: Sequence[bytes | None], tiles: Sequence[bytes | None]) -> None:
        self._intake = intake
        self._layout = intake.taken.layout
        self._keys = intake.keys
        self._old = StateReader(self._layout, states).whole()
        self._old_tiles = unpack_tiles(self._layout, tiles)
        self._place = {key: i for i, key in enumerate(self._keys)}
        self._entity = np.array([self._place[key] for key in intake.taken.keys], dtype=np.int64)
        changed = [*intake.gone, *(place for place, _ in intake.ended)]
        moved = np.array([self._place[place.key] for place in changed], dtype=np.int64)
        moved_us = np.array([place.available_us for place in changed], dtype=np.int64)
        touched = np.concatenate([self._entity, moved])
        moments = np.concatenate([intake.taken.available_us, moved_us])
        self._first = np.full(len(self._keys), np.iinfo(np.int64).max)
        self._last = np.full(len(self._keys), UNKNOWN)
        np.minimum.at(self._first, touched, moments)
        np.maximum.at(self._last, touched, moments)
        self._appended = self._first > self._old.newest_us
        self._appended[moved] = False

    def spans(self) -> list[Span]:
        """The kept rows that are needed: those of the touched tiles of entities whose tiles must be computed anew."""
        hops = [tile.hop_us for tile in self._layout.tiles]
        low = np.min([tile_index(self._first, hop) * hop for hop in hops], axis=0)
        high = np.max([(tile_index(self._last, hop) + 1) * hop for hop in hops], axis=0)
        return [Span(self._keys[i], int(low[i]), int(high[i])) for i in np.flatnonzero(~self._appended)]

    def renewed(self, kept: StoredRows) -> Renewal:
        """What is kept now; `kept`: the rows of `spans()`, as they were before."""
        entity, available, values = self._rows(kept)
        newest = np.maximum(self._old.newest_us, self._last)
        tiles = tuple(
            self._tiles(tile, old, entity, available, values, newest)
            for tile, old in zip(self._layout.tiles, self._old_tiles, strict=True)
        )
        hops = tuple(
            fold_on(tile, _of(self._appended, old), now, newest)
            for tile, old, now in zip(self._layout.tiles, self._old.hops, tiles, strict=True)
        )
        states = pack_folded(self._layout, FoldedStates(newest, self._replaced_us(), hops))
        packed = pack_tiles(self._layout, tiles, len(self._keys))
        widest = max(tile.hop_us for tile in self._layout.tiles)
        before = self._old.newest_us
        moved_on = (before != UNKNOWN) & (tile_index(newest, widest) > tile_index(np.maximum(before, -(2**62)), widest))
        after = [int(n) - self._layout.keep_us if on else None for n, on in zip(newest, moved_on, strict=True)]
        return Renewal(tuple(self._keys), tuple(states), tuple(packed), tuple(after))

    def _replaced_us(self) -> np.ndarray:
        """Until when a version counts of each entity that is replaced later."""
        latest = self._old.replaced_us.copy()
        ends = np.where(self._intake.until_us == FOREVER_US, UNKNOWN, self._intake.until_us)
        np.maximum.at(latest, self._entity, ends)
        for place, until_us in self._intake.ended:
            at = self._place[place.key]
            latest[at] = max(int(latest[at]), until_us)
        return latest

    def _rows(self, kept: StoredRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows that came and rows that stay, without replaced ones, by (entity, available, event, row key)."""
        came = np.flatnonzero(self._intake.until_us == FOREVER_US)
        taken = self._intake.taken if len(came) == len(self._intake.until_us) else self._intake.taken.take(came)
        gone = {(p.row_key, p.key, p.available_us) for p in (*self._intake.gone, *(e for e, _ in self._intake.ended))}
        names = zip(kept.row_keys, kept.keys, kept.available_us.tolist(), kept.until_us.tolist(), strict=True)
        living = [i for i, (*name, until) in enumerate(names) if until == FOREVER_US and tuple(name) not in gone]
        stays = kept.take(np.array(living, dtype=np.int64))
        of_kept = np.array([self._place[key] for key in stays.keys], dtype=np.int64)
        entity = np.concatenate([self._entity[came], of_kept])
        available = np.concatenate([taken.available_us, stays.available_us])
        event = np.concatenate([taken.event_us, stays.event_us])
        row_keys = np.array([*taken.row_keys, *stays.row_keys], dtype=np.str_)
        values = np.concatenate([taken.values, stays.values])
        order = np.lexsort((row_keys, event, available, entity))
        return entity[order], available[order], values[order]

    def _tiles(
        self, layout: TileLayout, old: Tiles, entity: np.ndarray, available: np.ndarray, values: np.ndarray,
        newest: np.ndarray,
    ) -> Tiles:
        """Old tiles with those between an entity's first and last touched moment replaced, too old ones dropped."""
        low, high = tile_index(self._first, layout.hop_us), tile_index(self._last, layout.hop_us)
        oldest = tile_index(newest - layout.keep_us, layout.hop_us)
        index = tile_index(available, layout.hop_us)
        inside = (index >= low[entity]) & (index <= high[entity])
        replaced = (old.index >= low[old.entity]) & (old.index <= high[old.entity])
        seed = replaced & self._appended[old.entity]  # at most one for each entity: its last tile
        columns, num_inside = RowColumns.of_words(self._layout, values[inside]), int(inside.sum())
        lifted = lift(layout.cells, columns.numbers, num_inside)
        codes = columns.codes(layout, num_inside)
        entries = self._entries(layout, old, row_entries(codes, entity[inside], index[inside]), low, high, oldest)
        owner = np.concatenate([old.entity[seed], entity[inside]])
        tile = np.concatenate([old.index[seed], index[inside]])
        order = np.lexsort((tile, owner))  # stable: the seed of a tile stays before its rows, rows in their order
        owner, tile = owner[order], tile[order]
        starts = segment_starts(owner, tile)
        ends = segment_ends(starts, len(tile))
        folded = running(layout.cells, np.concatenate([old.cells[seed], lifted])[order], starts)
        owner = np.concatenate([old.entity[~replaced], owner[ends]])
        tile = np.concatenate([old.index[~replaced], tile[ends]])
        cells = np.concatenate([old.cells[~replaced], folded[ends]])
        order = np.lexsort((tile, owner))
        order = order[tile[order] >= oldest[owner[order]]]
        return Tiles(owner[order], tile[order], cells[order], entries)

    def _entries(
        self, layout: TileLayout, old: Tiles, new: Entries, low: np.ndarray, high: np.ndarray, oldest: np.ndarray
    ) -> Entries:
        """As `_tiles`, for sketches, which may be added to whatever the order."""
        kept, owner = old.entries, old.entries.entity
        anew = (kept.index >= low[owner]) & (kept.index <= high[owner]) & ~self._appended[owner]
        entries = merged_entries(layout.kinds, [kept.where(~anew), new])
        return entries.where(entries.index >= oldest[entries.entity])


def _of(entities: np.ndarray, hop: FoldedHop) -> FoldedHop:
    """A hop as if only these entities (a mask) had been there."""
    stays = entities[hop.tails.entity]
    tails = Tails(hop.tails.entity[stays], hop.tails.index[stays], hop.tails.cells[stays])
    return FoldedHop(np.where(entities, hop.head_index, UNKNOWN), hop.head, tails, hop.entries)


def no_rows(layout: WindowLayout) -> StoredRows:
    """No stored rows of a view."""
    nothing = np.empty(0, dtype=np.int64)
    return StoredRows([], [], nothing, nothing, nothing, np.empty((0, layout.num_words)))
