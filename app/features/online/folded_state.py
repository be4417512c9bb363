"""State of an entity of a view with windows: its tiles already folded, so that a read adds the head and is done. Pure.

The *head* is an entity's newest tile. The *tail* of any other tile is the fold of the tiles from it on, oldest first,
up to the one before the head. A window that ends at or after the newest row is the tail of its first tile combined with
the head: the same operations in the same order as folding its tiles one by one, so the same bits. When the head moves
on, each tail takes in the old head, and the old head becomes a tail of its own.

Layout, in words of 8 bytes: the newest available time; until when a replaced version counts; for each hop the number of
tails and the head's index; for each hop with sketches the number of entries. Then for each hop the tails' indices, the
head's cells and the tails' cells; for each hop with sketches its entries.

Legend: K = entities, T = tails of a hop, S = cells, E = entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.features.sketches import Entries
from app.features.window_fold import combine
from app.features.window_layout import CellLayout, TileLayout, WindowGroup, WindowLayout
from app.features.windows import Tiles

UNKNOWN = int(np.iinfo(np.int64).min)
ENTRY_WORDS = 4


@dataclass(frozen=True)
class Tails:
    """Of one hop: `entity` [T], `index` [T], `cells` [T, S], sorted by `(entity, index)`."""

    entity: np.ndarray
    index: np.ndarray
    cells: np.ndarray


@dataclass(frozen=True)
class FoldedHop:
    """One hop of K entities: `head_index` [K] (`UNKNOWN`: no tile), `head` [K, S], tails and entries."""

    head_index: np.ndarray
    head: np.ndarray
    tails: Tails
    entries: Entries


@dataclass(frozen=True)
class FoldedStates:
    """States of K entities. `newest_us`, `replaced_us` [K], `UNKNOWN` for an unknown one; hops as in the layout."""

    newest_us: np.ndarray
    replaced_us: np.ndarray
    hops: tuple[FoldedHop, ...]


class StateReader:
    """States as they are stored, read no further than asked. Entity `i` is the `i`-th state, `None` an unknown one."""

    def __init__(self, layout: WindowLayout, states: Sequence[bytes | None]) -> None:
        self.layout = layout
        self._num_states = len(states)
        known = [state for state in states if state is not None]
        self._known = np.arange(len(states))
        if len(known) < len(states):
            self._known = np.array([i for i, state in enumerate(states) if state is not None], dtype=np.int64)
        self._words = np.frombuffer(b"".join(known), dtype=np.int64)
        self._floats = self._words.view(np.float64)
        lengths = np.fromiter(map(len, known), dtype=np.int64, count=len(known)) >> 3
        base = np.cumsum(lengths) - lengths
        hops, sketched = len(layout.tiles), sum(1 for tile in layout.tiles if tile.sketches)
        num_words = 2 + 2 * hops + sketched
        self._header = self._words[base[:, None] + np.arange(num_words)]
        self._counts = self._header[:, 2 : 2 + 2 * hops : 2]
        at = base + num_words
        self._starts = []  # of each hop's section
        for hop, tile in enumerate(layout.tiles):
            self._starts.append(at)
            at = at + len(tile.cells) + self._counts[:, hop] * (1 + len(tile.cells))
        self._entry_starts = []
        for number in range(sketched):
            self._entry_starts.append(at)
            at = at + self._header[:, 2 + 2 * hops + number] * ENTRY_WORDS
        self._indices: dict[int, np.ndarray] = {}

    @property
    def newest_us(self) -> np.ndarray:
        """[K]."""
        return self._spread(self._header[:, 0])

    @property
    def replaced_us(self) -> np.ndarray:
        """[K]."""
        return self._spread(self._header[:, 1])

    def cells(self, hop: int, group: WindowGroup, at_us: int) -> np.ndarray:
        """Cells [K, S of the group] of the windows that end at `at_us`, which is no entity's past."""
        first = (at_us - group.window_us) // group.hop_us
        empty = group.cells.empty
        start, count, size = self._starts[hop], self._counts[:, hop], len(self.layout.tiles[hop].cells)
        if not len(start):
            return np.tile(empty, (self._num_states, 1))
        indices = self._tail_indices(hop)
        ends = np.cumsum(count)
        older = np.searchsorted(np.flatnonzero(indices < first), np.append(0, ends))
        skipped = np.diff(older)
        head_at = (start + count)[:, None] + group.chosen
        head = self._floats.take(head_at)
        no_tail = skipped == count
        tail = self._floats.take(head_at + (size * np.where(no_tail, 0, 1 + skipped))[:, None])
        tail[no_tail] = empty
        cells = combine(group.cells, tail, head)
        cells[self._header[:, 3 + 2 * hop] < first] = empty
        if len(start) == self._num_states:
            return cells
        found = np.tile(empty, (self._num_states, 1))
        found[self._known] = cells
        return found

    def entries(self, hop: int) -> Entries:
        """Entries of a hop's sketches, sorted by slot, entity and tile."""
        if not self.layout.tiles[hop].sketches:
            return Entries.none()
        number = sum(1 for tile in self.layout.tiles[:hop] if tile.sketches)
        count = self._header[:, 2 + 2 * len(self.layout.tiles) + number]
        words = self._words[_within(self._entry_starts[number], count, ENTRY_WORDS)]
        entries = Entries(words[:, 0], np.repeat(self._known, count), words[:, 1], words[:, 2], words[:, 3])
        return entries.where(np.argsort(entries.slot, kind="stable"))

    def whole(self) -> FoldedStates:
        """Everything, as a writer needs it."""
        hops = []
        for hop, tile in enumerate(self.layout.tiles):
            start, count, size = self._starts[hop], self._counts[:, hop], len(tile.cells)
            head = np.empty((self._num_states, size))
            head[:] = tile.cells.empty
            head[self._known] = self._floats[(start + count)[:, None] + np.arange(size)]
            at = _within(start + count + size, count, size)
            tails = Tails(np.repeat(self._known, count), self._tail_indices(hop), self._floats[at])
            hops.append(FoldedHop(self._spread(self._header[:, 3 + 2 * hop]), head, tails, self.entries(hop)))
        return FoldedStates(self.newest_us, self.replaced_us, tuple(hops))

    def _tail_indices(self, hop: int) -> np.ndarray:
        if hop not in self._indices:
            count = self._counts[:, hop]
            at = np.repeat(self._starts[hop] - (np.cumsum(count) - count), count)
            at += np.arange(len(at))
            self._indices[hop] = self._words.take(at)
        return self._indices[hop]

    def _spread(self, column: np.ndarray) -> np.ndarray:
        if len(self._known) == self._num_states:
            return column
        spread = np.full(self._num_states, UNKNOWN)
        spread[self._known] = column
        return spread


def fold_on(layout: TileLayout, old: FoldedHop | None, tiles: Tiles, newest_us: np.ndarray) -> FoldedHop:
    """Heads and tails of K entities out of their tiles.

    Args:
        layout: of the hop.
        old: what holds up to the old head, without the entities whose tiles changed further back; they start anew.
        tiles: the tiles there are, entries included.
        newest_us: [K].
    """
    num_entities = len(newest_us)
    needed = (newest_us - layout.longest_us) // layout.hop_us
    head_index = np.full(num_entities, UNKNOWN)
    head = np.empty((num_entities, len(layout.cells)))
    head[:] = layout.cells.empty
    last = np.flatnonzero(np.diff(tiles.entity, append=num_entities) != 0)
    head_index[tiles.entity[last]] = tiles.index[last]
    head[tiles.entity[last]] = tiles.cells[last]
    closed = (tiles.index < head_index[tiles.entity]) & (tiles.index >= needed[tiles.entity])
    before = Tails(tiles.entity[:0], tiles.index[:0], tiles.cells[:0])
    if old is not None:
        closed &= tiles.index >= old.head_index[tiles.entity]
        stays = old.tails.index >= needed[old.tails.entity]
        before = Tails(old.tails.entity[stays], old.tails.index[stays], old.tails.cells[stays])
    tails = _taken_in(layout.cells, before, Tails(tiles.entity[closed], tiles.index[closed], tiles.cells[closed]))
    kept = tiles.entries.where(tiles.entries.index >= needed[tiles.entries.entity])
    return FoldedHop(head_index, head, tails, kept)


def _taken_in(layout: CellLayout, tails: Tails, closed: Tails) -> Tails:
    """Tails after further tiles, oldest first, each of which starts one of its own."""
    if not len(closed.entity):
        return tails
    starts = np.flatnonzero(np.diff(closed.entity, prepend=-1) != 0)
    counts = np.diff(np.append(starts, len(closed.entity)))
    rank = np.arange(len(closed.entity)) - np.repeat(starts, counts)
    entity, index, cells = (
        np.concatenate([a, b]) for a, b in zip(
            (tails.entity, tails.index, tails.cells), (closed.entity, closed.index, closed.cells), strict=True
        )
    )
    num_entities = int(entity.max()) + 1
    first, count = np.zeros(num_entities, dtype=np.int64), np.zeros(num_entities, dtype=np.int64)
    first[closed.entity[starts]], count[closed.entity[starts]] = starts, counts
    begin = np.concatenate([np.zeros(len(tails.entity), dtype=np.int64), rank + 1])  # the first tile each row takes in
    first, count = first[entity], count[entity]
    for step in range(int(counts.max())):
        active = np.flatnonzero((begin <= step) & (count > step))
        cells[active] = combine(layout, cells[active], closed.cells[first[active] + step])
    order = np.lexsort((index, entity))
    return Tails(entity[order], index[order], cells[order])


def pack_folded(layout: WindowLayout, states: FoldedStates) -> list[bytes]:
    """States as bytes, for entities that are all known."""
    num_entities = len(states.newest_us)
    each = np.arange(num_entities)
    header = [states.newest_us, states.replaced_us]
    sections: list[tuple[np.ndarray, np.ndarray]] = []  # whose each row is, and the rows
    for hop in states.hops:
        header += [np.bincount(hop.tails.entity, minlength=num_entities), hop.head_index]
        sections += [
            (hop.tails.entity, hop.tails.index[:, None]), (each, hop.head.view(np.int64)),
            (hop.tails.entity, hop.tails.cells.view(np.int64)),
        ]
    for tile, hop in zip(layout.tiles, states.hops, strict=True):
        if tile.sketches:
            entries = hop.entries.where(np.argsort(hop.entries.entity, kind="stable"))
            header.append(np.bincount(entries.entity, minlength=num_entities))
            rows = np.column_stack([entries.slot, entries.index, entries.code, entries.weight])
            sections.append((entries.entity, rows))
    sections.insert(0, (each, np.column_stack(header)))
    counts = [np.bincount(entity, minlength=num_entities) for entity, _ in sections]
    sizes = [count * rows.shape[1] for count, (_, rows) in zip(counts, sections, strict=True)]
    ends = np.cumsum(np.sum(sizes, axis=0))
    words = np.empty(int(ends[-1]) if num_entities else 0, dtype=np.int64)
    at = starts = ends - np.sum(sizes, axis=0)
    for count, size, (_, rows) in zip(counts, sizes, sections, strict=True):
        words[_within(at, count, rows.shape[1])] = rows
        at = at + size
    data = words.tobytes()
    return [data[a * 8 : b * 8] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def _within(start: np.ndarray, counts: np.ndarray, width: int) -> np.ndarray:
    """Positions of `counts` rows of `width` words from each `start` on: [sum of counts, width]."""
    shift = start - (np.cumsum(counts) - counts) * width
    first: np.ndarray = np.arange(int(counts.sum())) * width + np.repeat(shift, counts)
    return first[:, None] + np.arange(width)
