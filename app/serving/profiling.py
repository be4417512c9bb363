"""Sends what was answered to the model's profiler actor, without waiting for it and without needing it.

A call of an actor costs some 100 µs, more than a small model: rows are gathered as they are and made into a table a few
times each second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE, collector_name
from app.serving.schema import Row

LOOK_AGAIN_S = 5.0
GATHER_ROWS = 1_000
SCORE = "score"
MOMENT = pa.timestamp("us", "UTC")
Timed = tuple[pa.Array, pa.Table]  # moments [B] and, of the same length, features and score


class ProfilerFeed:
    """Finds the collector by name; answers are given whether or not it lives. For several threads."""

    def __init__(self, model: str) -> None:
        self._name = collector_name(model)
        self._actor: ActorHandle[Any] | None = None
        self._looked_at = float("-inf")
        self._gathered: list[tuple[datetime, Row, float]] = []
        self._tables: list[Timed] = []
        self._lock = threading.Lock()

    def __call__(self, at: datetime, rows: Sequence[Row], scores: Sequence[float]) -> None:
        """Adds answered rows."""
        with self._lock:
            self._gathered.extend((at, row, score) for row, score in zip(rows, scores, strict=True))
            full = len(self._gathered) >= GATHER_ROWS
        if full:
            self.flush()

    def table(self, at: datetime, features: pa.Table, scores: Sequence[float]) -> None:
        """Adds a large request."""
        moments = pa.repeat(pa.scalar(at, MOMENT), features.num_rows)
        with self._lock:
            self._tables.append((moments, features.append_column(SCORE, pa.array(scores, pa.float64()))))
        self.flush()

    def flush(self) -> None:
        """Sends what was gathered; without a collector it is dropped."""
        with self._lock:
            gathered, self._gathered = self._gathered, []
            tables, self._tables = self._tables, []
        actor = self._find() if gathered or tables else None
        if actor is None:
            return
        try:
            actor.observe_tables.remote([*tables, *as_tables(gathered)])
        except RayActorError:
            self._actor = None

    def _find(self) -> ActorHandle[Any] | None:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = now
            try:
                self._actor = ray.get_actor(self._name, COLLECTOR_NAMESPACE)
            except ValueError:
                self._actor = None
        return self._actor


def as_tables(gathered: Sequence[tuple[datetime, Row, float]]) -> list[Timed]:
    """Rows as tables, one for each set of columns: a promotion may bring other features. Pure."""
    by_columns: dict[tuple[str, ...], list[tuple[datetime, Row, float]]] = {}
    for answered in gathered:
        by_columns.setdefault(tuple(answered[1]), []).append(answered)
    found = []
    for names, items in by_columns.items():
        columns: dict[str, Any] = {name: pa.array([row[name] for _, row, _ in items]) for name in names}
        columns[SCORE] = pa.array([score for _, _, score in items], pa.float64())
        found.append((pa.array([at for at, _, _ in items], MOMENT), pa.table(columns)))
    return found
