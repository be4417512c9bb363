"""What an online store must do. Moments are microseconds since the epoch; `table` names one version of one view.

A store keeps for each entity of a table one *state*, bytes that answer a question about now in one look-up, and for
views with windows the tiles and the rows behind it, from which a state is computed anew when a row comes late or is
corrected. What the bytes mean is not the store's business: `latest_state`, `folded_state` and `tiles` write and read
them for every store alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.features.window_layout import WindowLayout

LAYOUT = 2  # of the bytes and tables that stores keep; another one cannot be read
FOREVER_US = 2**63 - 1
TOMBSTONE_US = -(2**63)  # event time of a version that says that the row is none of the view's any more


@dataclass(frozen=True, slots=True)
class LatestRow:
    """A row of a view without windows. `values`: the features as a JSON list.

    Rows of one `row_key` are versions of one row: the one with the greatest `source_created_us`, then `created_us`,
    replaces the others from its available time on.
    """

    key: str
    event_us: int
    available_us: int
    created_us: int
    row_key: str
    values: str
    source_created_us: int = 0


@dataclass(frozen=True)
class LatestBatch:
    """Rows for one table of a view without windows."""

    table: str
    rows: Sequence[LatestRow]


@dataclass(frozen=True)
class WindowBatch:
    """Rows for one table of a view with windows, in any order. Legend: N = rows, C = columns of the layout.

    `keys`: whose row it is; `row_keys`: which row, of all entities. Times [N]; `values` [N, C] float64, NaN where null.
    Rows of one row key are versions of one row, as those of `LatestRow`.
    """

    table: str
    layout: WindowLayout
    keys: Sequence[str]
    row_keys: Sequence[str]
    event_us: np.ndarray
    available_us: np.ndarray
    created_us: np.ndarray
    source_created_us: np.ndarray
    values: np.ndarray

    def take(self, index: np.ndarray) -> WindowBatch:
        """Rows by position."""
        return WindowBatch(
            self.table, self.layout, [self.keys[i] for i in index], [self.row_keys[i] for i in index],
            self.event_us[index], self.available_us[index], self.created_us[index], self.source_created_us[index],
            self.values[index],
        )


Batch = LatestBatch | WindowBatch


@dataclass(frozen=True)
class StoredRows:
    """Rows behind windows, in any order: see `WindowBatch`. Each counts before `until_us`, when a version does."""

    keys: Sequence[str]
    row_keys: Sequence[str]
    event_us: np.ndarray
    available_us: np.ndarray
    until_us: np.ndarray
    values: np.ndarray

    def take(self, index: np.ndarray) -> StoredRows:
        """Rows by position."""
        return StoredRows(
            [self.keys[i] for i in index], [self.row_keys[i] for i in index], self.event_us[index],
            self.available_us[index], self.until_us[index], self.values[index],
        )


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of an entity that became available in `(after_us, until_us]`."""

    key: str
    after_us: int
    until_us: int


class OnlineStore(Protocol):
    """Newest values by key. Rows may come twice and in any order: the outcome is the same.

    Every method raises `StoreUnavailableError`, which names the store, when it cannot be reached or was filled in
    another `LAYOUT`.
    """

    def put(self, batches: Sequence[Batch], *, replace: bool = False) -> None:
        """Adds rows to tables, all or nothing; a row that was written earlier never replaces one written later.

        Args:
            batches: rows by table.
            replace: what the tables held before is forgotten in the same step.
        """
        ...

    def states(self, asks: Sequence[tuple[str, Sequence[str]]]) -> list[list[bytes | None]]:
        """For each `(table, keys)` the state of each key; `None` for an unknown one. One round trip for all."""
        ...

    def tiles(self, table: str, keys: Sequence[str]) -> list[bytes | None]:
        """The tiles behind the windows of some entities. One round trip."""
        ...

    def rows(self, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
        """The rows behind the windows of some entities. One round trip."""
        ...

    def clear(self, table: str) -> None:
        """Forgets a table."""
        ...
