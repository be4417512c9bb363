"""What a batch of rows changes in the states of its entities. Pure: a store reads, asks here, and writes.

A row that is newer than everything its entity has goes onto the last tile: folding it onto the tile's cells gives the
same bits as folding the tile anew. Any other row (late, repeated, corrected, moved to another entity) has its tiles
computed anew from the rows.

Legend: K = touched entities, N = rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.features.online.base import Span, StoredRows, WindowBatch
from app.features.online.tiles import NOTHING, TileStates, pack_states, unpack_states
from app.features.sketches import Entries, merged
from app.features.window_fold import lift, running
from app.features.window_layout import TileLayout, WindowLayout
from app.features.window_rows import RowColumns, row_entries, segment_ends, segment_starts
from app.features.windows import Tiles, tile_index

Known = Mapping[str, tuple[str, int, int]]  # by row key: entity key, available and created time of the row that is kept


@dataclass(frozen=True)
class Intake:
    """The rows of a batch that count. `replaced`: kept rows that go, as row key, entity key and available time."""

    taken: WindowBatch
    replaced: tuple[tuple[str, str, int], ...]

    @property
    def keys(self) -> list[str]:
        """Touched entities, each once."""
        return list(dict.fromkeys([*self.taken.keys, *(key for _, key, _ in self.replaced)]))


@dataclass(frozen=True)
class Renewal:
    """New states of the touched entities, and from when on each one's rows are needed (`None`: as before)."""

    keys: tuple[str, ...]
    states: tuple[bytes, ...]
    rows_after_us: tuple[int | None, ...]


def take_in(batch: WindowBatch, known: Known) -> Intake:
    """Leaves out rows that something later has replaced, in the batch or in the store."""
    newest: dict[str, int] = {}
    for place, row_key in enumerate(batch.row_keys):
        if row_key not in newest or batch.created_us[place] >= batch.created_us[newest[row_key]]:
            newest[row_key] = place
    if known:
        newest = {k: p for k, p in newest.items() if k not in known or known[k][2] <= batch.created_us[p]}
    replaced = tuple((k, *known[k][:2]) for k in newest if k in known)
    if len(newest) == len(batch.row_keys):
        return Intake(batch, replaced)
    return Intake(batch.take(np.array(sorted(newest.values()), dtype=np.int64)), replaced)


class Renewing:
    """The step from old to new states.

    Args:
        intake: what comes.
        states: old states of `intake.keys`, in that order.
    """

    def __init__(self, intake: Intake, states: Sequence[bytes | None]) -> None:
        self._intake = intake
        self._layout = intake.taken.layout
        self._keys = intake.keys
        self._old = unpack_states(self._layout, states)
        place = {key: i for i, key in enumerate(self._keys)}
        self._entity = np.array([place[key] for key in intake.taken.keys], dtype=np.int64)
        moved = np.array([place[key] for _, key, _ in intake.replaced], dtype=np.int64)
        moved_us = np.array([at for _, _, at in intake.replaced], dtype=np.int64)
        touched = np.concatenate([self._entity, moved])
        moments = np.concatenate([intake.taken.available_us, moved_us])
        self._first = np.full(len(self._keys), np.iinfo(np.int64).max)
        self._last = np.full(len(self._keys), NOTHING)
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
        """The new states; `kept`: the rows of `spans()`, as they were before."""
        entity, available, values = self._rows(kept)
        newest = np.maximum(self._old.newest_us, self._last)
        tiles = tuple(
            self._tiles(tile, old, entity, available, values, newest)
            for tile, old in zip(self._layout.tiles, self._old.tiles, strict=True)
        )
        states = pack_states(self._layout, TileStates(newest, tiles))
        widest = max(tile.hop_us for tile in self._layout.tiles)
        before = self._old.newest_us
        moved_on = (before != NOTHING) & (tile_index(newest, widest) > tile_index(np.maximum(before, -(2**62)), widest))
        after = [int(n) - self._layout.keep_us if on else None for n, on in zip(newest, moved_on, strict=True)]
        return Renewal(tuple(self._keys), tuple(states), tuple(after))

    def _rows(self, kept: StoredRows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows that came and rows that stay, sorted by (entity, available, event, row key)."""
        taken = self._intake.taken
        gone = {row_key for row_key, _, _ in self._intake.replaced}
        stays = np.array([i for i, row_key in enumerate(kept.row_keys) if row_key not in gone], dtype=np.int64)
        place = {key: i for i, key in enumerate(self._keys)}
        of_kept = np.array([place[kept.keys[i]] for i in stays], dtype=np.int64)
        entity = np.concatenate([self._entity, of_kept])
        available = np.concatenate([taken.available_us, kept.available_us[stays]])
        event = np.concatenate([taken.event_us, kept.event_us[stays]])
        row_keys = np.array([*taken.row_keys, *(kept.row_keys[i] for i in stays)], dtype=np.str_)
        values = np.concatenate([taken.values, kept.values[stays]])
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
        entries = merged(layout.kinds, [kept.where(~anew), new])
        return entries.where(entries.index >= oldest[entries.entity])


def no_rows(layout: WindowLayout) -> StoredRows:
    """No stored rows of a view."""
    nothing = np.empty(0, dtype=np.int64)
    return StoredRows([], [], nothing, nothing, np.empty((0, layout.num_words)))
