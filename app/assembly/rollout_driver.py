"""The platform's own hand on rollouts: an actor that ships the prediction log and moves rollouts on, by the wall clock.

One detached actor for a model, restarted when it dies. It keeps nothing that matters: phase and step are in the state
database, and what it was about to do is found again from them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import ray
from sqlalchemy.exc import SQLAlchemyError

from app.assembly.champion_alias import ChampionAlias
from app.clock import Clock, WallClock
from app.errors import StateConflictError
from app.foundation.lake import Lake
from app.foundation.projects import load_project
from app.foundation.state import StateDatabase
from app.foundation.telemetry.collector import COLLECTOR_NAMESPACE
from app.models.registry import ModelRegistry
from app.predictionlog.reader import join_labels, read_labels, read_mirrored, read_predictions
from app.predictionlog.shipper import ship_all
from app.rollout.controller import RolloutController
from app.rollout.operations import driver_name
from app.rollout.record import Driver, RolloutState
from app.serving.routing import RoutingTable
from app.settings import Settings
from app.spec import Project

TICK_S = 2.0
OBSERVED_COLUMNS = [
    "request_id", "key", "prediction_timestamp", "score", "latency_ms", "assigned", "answered_by", "version",
    "error", "rollout_id", "overridden",
]
logger = logging.getLogger(__name__)


class RolloutDriver:
    """Moves a model's rollouts on at each tick. Plain Python, run by the actor.

    Args:
        num_replicas: champion replicas that must follow a change before it counts as made.
    """

    def __init__(
        self, project: Project, settings: Settings, num_replicas: int, clock: Clock | None = None
    ) -> None:
        self._project = project
        self._settings = settings
        self._clock = clock or WallClock()
        self._lake = Lake.open(settings)
        database = StateDatabase.open(settings.state_url)
        self._routing = RoutingTable(database, self._clock)
        self._alias = ChampionAlias(ModelRegistry(settings), project.name)
        self._boot_id = uuid.uuid4().hex
        self._controller = RolloutController(
            database, self._routing, project.rollout, clock=self._clock, num_replicas=num_replicas,
            driver=Driver.PLATFORM,
        )

    def tick(self) -> None:
        """Ships what was answered and moves every rollout of the model as far as it can go now.

        While the state database is away nothing moves: replicas keep the last weights they know, and the next tick
        looks again.
        """
        ship_all(self._lake, self._settings, self._project.name)
        try:
            self._routing.acknowledge(driver_name(self._project.name), "driver", self._boot_id, 0, ())
            for state in self._controller.record.driven_by(Driver.PLATFORM):
                if state.model == self._project.name:
                    self._move(state)
            route = self._routing.find(self._project.name)
            if route is not None:
                self._alias.follow(route.champion)
        except SQLAlchemyError as error:
            logger.warning("state database cannot be reached (%s); rollouts hold", error)

    def _move(self, state: RolloutState) -> None:
        now = self._clock.now()
        try:
            self._controller.tick(state.rollout_id, now, *self._observed(state, now))
        except StateConflictError as error:
            logger.info("%s", error.message)  # a person changed it meanwhile; the next tick sees that

    def _observed(self, state: RolloutState, now: datetime) -> tuple[pa.Table, pa.Table]:
        """What was answered and what was mirrored since the rollout began, with the truth known now."""
        end = now + timedelta(seconds=1)
        labels = read_labels(self._lake, state.model, available_by=now)
        answered = read_predictions(self._lake, state.model, state.started_at, end, OBSERVED_COLUMNS)
        mirrored = read_mirrored(self._lake, state.model, state.started_at, end)
        return join_labels(answered, labels), join_labels(mirrored, labels)


class TickingDriver:
    """Ticks in a thread for as long as its process lives."""

    def __init__(self, project_ref: str, settings: Settings, num_replicas: int) -> None:
        self._driver = RolloutDriver(load_project(project_ref), settings, num_replicas)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="millrace-rollout-tick")
        threading.Thread(target=self._run, name="millrace-rollouts", daemon=True).start()

    def process_id(self) -> int:
        """Of this life of the driver; starting waits for it."""
        return os.getpid()

    def _run(self) -> None:
        while True:
            failure = self._worker.submit(self._driver.tick).exception()
            if failure is not None:  # of whatever kind: the next tick tries again, and `status` misses the heartbeat
                logger.error("a tick failed; rollouts hold until one succeeds", exc_info=failure)
            time.sleep(TICK_S)


def start_rollout_driver(project_ref: str, settings: Settings, num_replicas: int) -> None:
    """Starts the model's driver unless it runs, and waits until it does."""
    name = driver_name(load_project(project_ref).name)
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1)(TickingDriver)
    options = actor.options(name=name, namespace=COLLECTOR_NAMESPACE, lifetime="detached", get_if_exists=True)
    ray.get(options.remote(project_ref, settings, num_replicas).process_id.remote())
