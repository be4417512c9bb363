"""Reads answered from memory: off by default, bounded, with a stated staleness and a hit rate to be seen.

What another process pushes is seen `staleness_s` later at most; what this process pushes is seen at once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from app.features.online.base import Batch, LatestBatch, OnlineStore, Span, StoredRows


@dataclass(frozen=True)
class CacheUse:
    """How a cache did since it was made. `entries` of at most `max_entries`; `hit_rate` is 0 before the first read."""

    staleness_s: float
    max_entries: int
    entries: int
    hits: int
    misses: int

    @property
    def hit_rate(self) -> float:
        """Share of the asked states that came from memory."""
        return self.hits / max(self.hits + self.misses, 1)


class CachedOnlineStore:
    """An online store whose states are kept in memory for a while; unknown entities are remembered as well.

    Args:
        store: what is behind.
        staleness_s: how old a state may be that is answered from memory.
        max_entries: states kept; the ones read longest ago go first.
        now: a clock in seconds.
    """

    def __init__(
        self, store: OnlineStore, staleness_s: float, max_entries: int, now: Callable[[], float] = monotonic
    ) -> None:
        self._store = store
        self._staleness_s = staleness_s
        self._max_entries = max_entries
        self._now = now
        self._forget()

    @property
    def use(self) -> CacheUse:
        """Counts since the cache was made."""
        with self._lock:
            return CacheUse(self._staleness_s, self._max_entries, len(self._kept), self._hits, self._misses)

    def put(self, batches: Sequence[Batch], *, replace: bool = False) -> None:
        try:
            self._store.put(batches, replace=replace)
        finally:  # a put that failed may have been made all the same
            with self._lock:
                self._writes += 1
                for batch in batches:
                    self._drop(batch, replace)

    def states(self, asks: Sequence[tuple[str, Sequence[str]]]) -> list[list[bytes | None]]:
        now = self._now()
        found: list[list[Any]] = []
        missing: list[tuple[str, list[str]]] = []
        with self._lock:
            writes = self._writes
            for table, keys in asks:
                states = [self._kept.get((table, key)) for key in keys]
                fresh = [s is not None and s[0] > now for s in states]
                found.append([s[1] if ok and s is not None else None for s, ok in zip(states, fresh, strict=True)])
                missing.append((table, [key for key, ok in zip(keys, fresh, strict=True) if not ok]))
                for key, ok in zip(keys, fresh, strict=True):
                    if ok:
                        self._kept.move_to_end((table, key))
                self._hits += sum(fresh)
                self._misses += len(missing[-1][1])
        if not any(keys for _, keys in missing):
            return found
        fetched = [dict(zip(keys, new, strict=True)) for (_, keys), new in
                   zip(missing, self._store.states(missing), strict=True)]
        self._keep(missing, fetched, now + self._staleness_s, writes)
        return [
            [new.get(key, old) for key, old in zip(keys, states, strict=True)]
            for (_, keys), states, new in zip(asks, found, fetched, strict=True)
        ]

    def tiles(self, table: str, keys: Sequence[str]) -> list[bytes | None]:
        return self._store.tiles(table, keys)

    def rows(self, table: str, spans: Sequence[Span], num_columns: int) -> StoredRows:
        return self._store.rows(table, spans, num_columns)

    def clear(self, table: str) -> None:
        self._store.clear(table)
        with self._lock:
            self._writes += 1
            self._drop_table(table)

    def _drop(self, batch: Batch, replace: bool) -> None:
        """Forgets what a batch may have changed: a corrected row of a window may have belonged to another entity."""
        if replace or not isinstance(batch, LatestBatch):
            self._drop_table(batch.table)
            return
        for row in batch.rows:
            self._kept.pop((batch.table, row.key), None)

    def _drop_table(self, table: str) -> None:
        for name in [n for n in self._kept if n[0] == table]:
            del self._kept[name]

    def _keep(
        self, missing: Sequence[tuple[str, Sequence[str]]], fetched: Sequence[dict[str, bytes | None]], until: float,
        writes: int,
    ) -> None:
        """Keeps what was read, unless this process has written in the meantime."""
        with self._lock:
            if writes != self._writes:
                return
            for (table, _), states in zip(missing, fetched, strict=True):
                for key, state in states.items():
                    self._kept[(table, key)] = (until, state)
                    self._kept.move_to_end((table, key))
            while len(self._kept) > self._max_entries:
                self._kept.popitem(last=False)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes | None]] = OrderedDict()
        self._hits = self._misses = self._writes = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return (CachedOnlineStore, (self._store, self._staleness_s, self._max_entries))

