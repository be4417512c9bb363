"""Tiles of online entities: computed from rows by the same fold as in training, packed into bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from app.features.online.base import KeyTiles, WindowSpec
from app.features.window_rows import segment_starts
from app.features.windows import EMPTY, Partials, Tiles, running_partials, tile_index

PARTIAL_NAMES = tuple(f.name for f in fields(Partials))


@dataclass(frozen=True)
class SortedRows:
    """Rows sorted by `(entity, available, event, row key)`: entity [N], available [N], values [N, columns]."""

    entity: np.ndarray
    available_us: np.ndarray
    values: np.ndarray

    def where(self, chosen: np.ndarray) -> SortedRows:
        """The rows at which `chosen` is true."""
        return SortedRows(self.entity[chosen], self.available_us[chosen], self.values[chosen])


def pack(tiles: KeyTiles) -> bytes:
    """`index` and cells as float64; counts and indices are whole numbers far below 2**53."""
    flat = tiles.cells.reshape(len(tiles.index), -1)
    return np.column_stack([tiles.index.astype(np.float64), flat]).tobytes()


def unpack(newest_us: int, state: bytes, num_columns: int) -> KeyTiles:
    """The inverse of `pack`."""
    table = np.frombuffer(state).reshape(-1, 1 + num_columns * len(PARTIAL_NAMES))
    cells = table[:, 1:].reshape(len(table), num_columns, len(PARTIAL_NAMES))
    return KeyTiles(newest_us, table[:, 0].astype(np.int64), cells)


def fold_rows(rows: SortedRows, hop_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tiles of rows: entity [M], index [M], cells [M, columns, 6]."""
    index = tile_index(rows.available_us, hop_us)
    starts = segment_starts(rows.entity, index)
    ends = np.append(starts[1:], len(index)) - 1 if len(index) else starts
    cells = np.empty((len(ends), rows.values.shape[1], len(PARTIAL_NAMES)))
    for column in range(rows.values.shape[1]):
        partials = running_partials(rows.values[:, column], starts)
        for place, name in enumerate(PARTIAL_NAMES):
            cells[:, column, place] = getattr(partials, name)[ends]
    return rows.entity[ends], index[ends], cells


def replace_tiles(old: KeyTiles | None, low: int, high: int, new: KeyTiles, oldest: int) -> KeyTiles:
    """Tiles `low … high` replaced by `new`; tiles before `oldest` dropped."""
    index, cells = new.index, new.cells
    if old is not None:
        before, after = np.searchsorted(old.index, [low, high + 1])
        index = np.concatenate([old.index[:before], index, old.index[after:]])
        cells = np.concatenate([old.cells[:before], cells, old.cells[after:]])
    kept = int(np.searchsorted(index, oldest))
    return KeyTiles(new.newest_us, index[kept:], cells[kept:])


def answer_parts(
    states: Sequence[KeyTiles | None], spec: WindowSpec, hop_us: int, at_us: int, rows: SortedRows
) -> dict[tuple[str, int], tuple[Tiles, Partials]]:
    """Tiles and heads of one hop for all columns.

    Args:
        states: tiles of each asked key, `None` for an unknown one.
        spec: the view's windows.
        hop_us: the hop.
        at_us: the moment asked about.
        rows: rows around `at_us` of the keys that have rows after it, whose kept head holds too much.
    """
    known = [(i, state) for i, state in enumerate(states) if state is not None]
    shape = (0, len(spec.columns), len(PARTIAL_NAMES))
    entity = np.repeat(np.array([i for i, _ in known], dtype=np.int64), [len(s.index) for _, s in known])
    index = np.concatenate([s.index for _, s in known]) if known else np.empty(0, np.int64)
    cells = np.concatenate([s.cells for _, s in known]) if known else np.empty(shape)
    head = -(-at_us // hop_us) - 1
    heads = np.empty((len(states), *shape[1:]))
    heads[:] = list(EMPTY.values())
    complete = np.array([s is not None and s.newest_us <= at_us for s in states], dtype=bool)
    in_head = (index == head) & complete[entity]
    heads[entity[in_head]] = cells[in_head]
    of_head = (tile_index(rows.available_us, hop_us) == head) & (rows.available_us <= at_us)
    if of_head.any():
        owners, _, partial = fold_rows(rows.where(of_head), hop_us)
        heads[owners] = partial
    return {
        (column, hop_us): (Tiles(entity, index, _partials(cells, c)), _partials(heads, c))
        for c, column in enumerate(spec.columns)
    }


def _partials(cells: np.ndarray, column: int) -> Partials:
    count, *rest = (cells[:, column, place] for place in range(len(PARTIAL_NAMES)))
    return Partials(count.astype(np.int64), *rest)
