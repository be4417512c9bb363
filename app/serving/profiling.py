"""Sends what was answered to the model's profiler actor, without waiting for it and without needing it.

A call of an actor costs some 100 µs, more than a small model: small requests are gathered, by moment asked about, and
sent a few times each second.
"""

from __future__ import annotations

import threading
import time
from datetime import datetime
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE, collector_name

LOOK_AGAIN_S = 5.0
GATHER_ROWS = 1_000
Batch = tuple[datetime, dict[str, list[Any]]]


class ProfilerFeed:
    """Finds the collector by name; answers are given whether or not it lives. For several threads."""

    def __init__(self, model: str) -> None:
        self._name = collector_name(model)
        self._actor: ActorHandle[Any] | None = None
        self._looked_at = float("-inf")
        self._gathered: list[Batch] = []
        self._num_rows = 0
        self._lock = threading.Lock()

    def __call__(self, at: datetime, columns: dict[str, list[Any]]) -> None:
        with self._lock:
            self._gathered.append((at, columns))
            self._num_rows += len(columns["score"])
            full = self._num_rows >= GATHER_ROWS
        if full:
            self.flush()

    def flush(self) -> None:
        """Sends what was gathered; without a collector it is dropped."""
        with self._lock:
            gathered, self._gathered, self._num_rows = self._gathered, [], 0
        actor = self._find() if gathered else None
        if actor is None:
            return
        try:
            actor.observe_all.remote(gathered)
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
