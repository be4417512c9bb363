"""Sends what was answered to the model's profiler actor, without waiting for it and without needing it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError

from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE, collector_name

LOOK_AGAIN_S = 5.0


class ProfilerFeed:
    """Finds the collector by name; answers are given whether or not it lives."""

    def __init__(self, model: str) -> None:
        self._name = collector_name(model)
        self._actor: ActorHandle[Any] | None = None
        self._looked_at = float("-inf")

    def __call__(self, at: datetime, columns: dict[str, list[Any]]) -> None:
        actor = self._find()
        if actor is None:
            return
        try:
            actor.observe.remote(at, columns)
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
