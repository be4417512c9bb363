"""The tiles of an entity of a view with windows as bytes: what its state is folded from. Pure.

Layout: rows of equal width, in words of 8 bytes. The first row is the number of rows of each section; then the sections
follow, padded to the width. A hop's section has a row for each tile, its index and its cells; behind them the section
of a hop with sketches has a row for each entry. So the tiles of many entities, one behind the other, are one matrix.
Legend: K = entities, M = tiles, S = cells, E = entries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.features.sketches import Entries
from app.features.window_layout import WindowLayout
from app.features.windows import Tiles


def unpack_tiles(layout: WindowLayout, packed: Sequence[bytes | None]) -> tuple[Tiles, ...]:
    """Tiles of each hop; entity `i` is the `i`-th of `packed`, which has none where it is `None`."""
    width = _width(layout)
    known = [state for state in packed if state is not None]
    rows = np.frombuffer(b"".join(known), dtype=np.int64).reshape(-1, width)
    num_rows = np.fromiter(map(len, known), dtype=np.int64, count=len(known)) // (8 * width)
    first = np.cumsum(num_rows) - num_rows
    entities = np.arange(len(packed))
    if len(known) < len(packed):
        entities = np.array([i for i, state in enumerate(packed) if state is not None], dtype=np.int64)
    counts = rows[first, : _num_sections(layout)]
    start = first + 1
    sections = []
    for section in range(counts.shape[1]):
        sections.append(_section(rows, entities, start, counts[:, section]))
        start = start + counts[:, section]
    with_sketches = iter(sections[len(layout.tiles) :])
    tiles = []
    for tile, (entity, words) in zip(layout.tiles, sections[: len(layout.tiles)], strict=True):
        cells = words.view(np.float64)[:, 1 : 1 + len(tile.cells)]
        entries = _entries(*next(with_sketches)) if tile.sketches else Entries.none()
        tiles.append(Tiles(entity, words[:, 0], cells, entries))
    return tuple(tiles)


def _section(
    rows: np.ndarray, entities: np.ndarray, start: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of each entity `counts` rows from `start` on: whose each row is, and the rows."""
    shift = start - (np.cumsum(counts) - counts)
    chosen = np.take(rows, np.arange(int(counts.sum())) + np.repeat(shift, counts), axis=0)
    return np.repeat(entities, counts), chosen


def _entries(entity: np.ndarray, words: np.ndarray) -> Entries:
    entries = Entries(words[:, 0], entity, words[:, 1], words[:, 2], words[:, 3])
    return entries.where(np.argsort(entries.slot, kind="stable"))


def pack_tiles(layout: WindowLayout, of_hops: Sequence[Tiles], num_entities: int) -> list[bytes]:
    """The inverse of `unpack_tiles`, for entities that are all known."""
    num_sections = _num_sections(layout)
    sections = [(tiles.entity, tiles.index, tiles.cells.view(np.int64)) for tiles in of_hops]
    for tile, tiles in zip(layout.tiles, of_hops, strict=True):
        if tile.sketches:
            entries = tiles.entries.where(np.argsort(tiles.entries.entity, kind="stable"))
            columns = np.column_stack([entries.index, entries.code, entries.weight])
            sections.append((entries.entity, entries.slot, columns))
    bounds = [np.searchsorted(entity, np.arange(num_entities + 1)) for entity, _, _ in sections]
    counts = np.array([np.diff(of_section) for of_section in bounds], dtype=np.int64)
    end = np.cumsum(1 + counts.sum(axis=0))
    start = np.append(0, end)[:-1]
    rows = np.zeros((int(end[-1]) if num_entities else 0, _width(layout)), dtype=np.int64)
    rows[start, :num_sections] = counts.T
    place = start + 1
    for section, (_, first, others) in enumerate(sections):
        at = np.arange(len(first)) + np.repeat(place - bounds[section][:-1], counts[section])
        rows[at, 0] = first
        rows[at, 1 : 1 + others.shape[1]] = others
        place = place + counts[section]
    data, row_bytes = rows.tobytes(), 8 * rows.shape[1]
    return [data[a * row_bytes : b * row_bytes] for a, b in zip(start.tolist(), end.tolist(), strict=True)]


def _num_sections(layout: WindowLayout) -> int:
    return len(layout.tiles) + sum(1 for tile in layout.tiles if tile.sketches)


def _width(layout: WindowLayout) -> int:
    entry = [4] if any(tile.sketches for tile in layout.tiles) else []
    return max(_num_sections(layout), *(1 + len(tile.cells) for tile in layout.tiles), *entry)
