"""Runs a trainer in a task of its own: watched, resized while nodes come and go, stopped whole at its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import Checkpoint
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from app.errors import TrainingError
from app.spec.models import TorchModel
from app.training.data_plan import possible_workers
from app.training.elastic import Seen, decide_workers
from app.training.interrupt import remove_orphaned_groups
from app.training.progress import ProgressReader
from app.training.worker import STARTED

MAX_FAILURES = 2  # worker deaths that are mended from the last checkpoint
GRACE_S = 60.0
LOOK_S = 0.5
STOPPING_S = 20.0
ORPHANED_S = 3.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its last report and checkpoint, and why it stopped early if it did."""

    metrics: dict[str, Any]
    checkpoint: Checkpoint | None
    failure: str | None


@dataclass(frozen=True)
class Attempt:
    """How an attempt ended: with an outcome, or to go on with another number of workers."""

    outcome: Outcome | None
    workers: int


@dataclass(frozen=True)
class Supervised:
    """A run to be watched. `trainer`: makes the trainer of an attempt with so many workers."""

    model: TorchModel
    run_id: str
    run_folder: Path
    resource: str  # "CPU" or "GPU", of which each worker needs one
    deadline_at: float
    trainer: Callable[[int, int], TorchTrainer]
    progress: ProgressReader

    def run(self) -> Outcome:
        """Runs to the end.

        Workers stop by themselves at the deadline. The task is stopped when no worker has met another by then, and
        `GRACE_S` later in any case: Ray Train itself would wait for free CPUs, or for a rank that hangs, without limit.

        Raises:
            TrainingError: it could not be scheduled, or had to be stopped.
        """
        possible = possible_workers(self.model.num_workers, self.model.min_workers or self.model.num_workers)
        workers = next((n for n in possible if n <= room(self.resource)), possible[0])
        died = 0
        for number in range(1_000):
            try:
                attempt = self._attempt(number, workers, possible)
            except RayError as error:  # the task was killed; what runs beneath it died with it
                died += 1
                if died > MAX_FAILURES:
                    return Outcome({}, None, f"its supervisor died {died} times; the last time: {error}")
                continue
            if attempt.outcome is not None:
                return attempt.outcome
            workers = attempt.workers
        raise TrainingError(f"training run {self.run_id} was resized without end.", run_id=self.run_id)

    def _attempt(self, number: int, workers: int, possible: Sequence[int]) -> Attempt:
        trainer = self.trainer(number, workers)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        running = _fit.options(scheduling_strategy=here).remote(trainer)  # where Ray Train's controller will be too
        before = self.progress.checkpoints
        seen_room, since_s = workers, time.monotonic()
        while True:
            ready, _ = ray.wait([running], timeout=LOOK_S)
            self.progress.catch_up()
            if ready:
                return Attempt(ray.get(running), workers)
            self._stop_if_late(running, number, workers)
            found = room(self.resource)
            if found != seen_room:
                seen_room, since_s = found, time.monotonic()
            seen = Seen(workers, found, time.monotonic() - since_s, self.progress.checkpoints > before)
            wanted = decide_workers(possible, seen)
            if wanted != workers:
                _stop(running)
                return Attempt(None, wanted)

    def _stop_if_late(self, running: ray.ObjectRef[Outcome], number: int, workers: int) -> None:
        late_s = time.time() - self.deadline_at
        if late_s < 0:
            return
        started = (self.run_folder / f"{STARTED}-{number}").exists()
        if started and late_s < GRACE_S:
            return
        _stop(running)
        total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        what = "did not end" if started else "could not be scheduled or did not start"
        raise TrainingError(
            f"training run {self.run_id} {what} by its deadline of {self.model.deadline_s:g} s and was stopped. It "
            f"asks for {workers} workers of 1 {self.resource}; the cluster has {total.get(self.resource, 0):g}, free "
            f"now {free.get(self.resource, 0):g}. Lower num_workers, raise deadline_s or add nodes.",
            run_id=self.run_id,
        )


def room(resource: str) -> int:
    """How many workers of one CPU or GPU all live nodes could hold, were they idle."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(int(node["Resources"].get(resource, 0)) for node in nodes if node["Alive"])


def _stop(running: ray.ObjectRef[Outcome]) -> None:
    """Asks the run to end, so that it gives back its workers; a run that does not is killed."""
    ray.cancel(running)
    ready, _ = ray.wait([running], timeout=STOPPING_S)
    if not ready:
        ray.cancel(running, force=True)
        ray.wait([running], timeout=STOPPING_S)
    remove_orphaned_groups(ORPHANED_S)


@ray.remote(num_cpus=0, max_retries=0)
def _fit(trainer: TorchTrainer) -> Outcome:
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        return Outcome({}, None, f"it failed {MAX_FAILURES + 1} times; the last time: {error}")
    return Outcome(dict(result.metrics or {}), result.checkpoint, getattr(result, "return_value", None))
