"""Scores given before, by version and features: the same question to the same version has the same answer."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

Key = tuple[Hashable, ...]


@dataclass(frozen=True)
class ScoreCacheUse:
    """How a cache did. `entries`: scores held now."""

    hits: int
    misses: int
    entries: int

    @property
    def hit_rate(self) -> float:
        """Share of the scores asked for that were there, 0 when none was asked for."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class ScoreCache:
    """The `max_entries` scores used last. For several threads."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._scores: OrderedDict[Key, float] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def find(self, keys: Sequence[Key]) -> list[float | None]:
        """The score of each key, `None` where it is not known."""
        found: list[float | None] = []
        with self._lock:
            for key in keys:
                score = self._scores.get(key)
                if score is None:
                    self._misses += 1
                else:
                    self._hits += 1
                    self._scores.move_to_end(key)
                found.append(score)
        return found

    def keep(self, keys: Sequence[Key], scores: Sequence[float]) -> None:
        """Remembers scores, forgetting those not used for longest."""
        with self._lock:
            for key, score in zip(keys, scores, strict=True):
                self._scores[key] = score
                self._scores.move_to_end(key)
            while len(self._scores) > self._max_entries:
                self._scores.popitem(last=False)

    @property
    def use(self) -> ScoreCacheUse:
        """How it did so far."""
        return ScoreCacheUse(self._hits, self._misses, len(self._scores))
