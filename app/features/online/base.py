"""What an online store must do. Moments are microseconds since the epoch; `table` names one version of one view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.features.windows import Partials, Tiles, micros
from app.spec.features import FeatureView

SLACK_US = 86_400_000_000  # how far behind an entity's newest row a question may lie and still be answered exactly
LATEST_KEPT = 8  # rows kept for each entity of a view without windows


@dataclass(frozen=True, slots=True)
class LatestRow:
    """A row of a view without windows. `values`: the features as JSON text."""

    key: str
    event_us: int
    available_us: int
    created_us: int
    row_key: str
    values: str


@dataclass(frozen=True, slots=True)
class WindowRow:
    """A row of a view with windows. `values`: float64 bytes, one for each column of the spec, NaN where null."""

    key: str
    event_us: int
    available_us: int
    created_us: int
    row_key: str
    values: bytes


@dataclass(frozen=True)
class WindowSpec:
    """What a view's windows need: the columns read, the hops (increasing), and for each how long its tiles are kept."""

    columns: tuple[str, ...]
    hops_us: tuple[int, ...]
    keep_tiles_us: tuple[int, ...]

    @property
    def keep_us(self) -> int:
        """How long rows are kept."""
        return max(self.keep_tiles_us)

    @classmethod
    def of(cls, view: FeatureView) -> WindowSpec:
        """The spec of a view with aggregations."""
        longest: dict[int, int] = {}
        for aggregation in view.aggregations:
            hop_us = micros(aggregation.hop)
            longest[hop_us] = max(longest.get(hop_us, 0), micros(aggregation.window))
        hops = tuple(sorted(longest))
        columns = tuple(dict.fromkeys(a.column for a in view.aggregations))
        return cls(columns, hops, tuple(longest[hop] + 2 * hop + SLACK_US for hop in hops))


@dataclass(frozen=True)
class WindowAnswer:
    """Tiles and heads of the asked keys, by `(column, hop)`: entity `i` is the `i`-th asked key."""

    parts: dict[tuple[str, int], tuple[Tiles, Partials]]

    def tiles_and_heads(self, column: str, hop_us: int) -> tuple[Tiles, Partials]:
        """What `window_features` asks for."""
        return self.parts[(column, hop_us)]


@dataclass(frozen=True)
class KeyTiles:
    """What is kept for one entity and hop: `index` [M], cells [M, columns, 6] in the order of `Partials`' fields."""

    newest_us: int
    index: np.ndarray
    cells: np.ndarray


class OnlineStore(Protocol):
    """Newest values by key. Rows may come twice and in any order: the outcome is the same."""

    def put_latest(self, table: str, rows: Sequence[LatestRow]) -> None:
        """Adds rows; a row that was written earlier never replaces one written later."""
        ...

    def get_latest(self, table: str, keys: Sequence[str], at_us: int) -> dict[str, LatestRow]:
        """For each key the row with the greatest event, then created, of those known at `at_us`. One round trip."""
        ...

    def put_windows(self, table: str, rows: Sequence[WindowRow], spec: WindowSpec) -> None:
        """Adds rows and brings the tiles they fall into up to date; forgets what no window reaches any more."""
        ...

    def get_windows(self, table: str, keys: Sequence[str], at_us: int, spec: WindowSpec) -> WindowAnswer:
        """Tiles and heads for distinct keys at a moment."""
        ...

    def clear(self, table: str) -> None:
        """Forgets a table."""
        ...
