"""Runs a trainer in a task of its own, so that a run that cannot start or hangs is stopped whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.train import Checkpoint
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from app.errors import TrainingError
from app.spec.models import TorchModel

MAX_FAILURES = 2  # worker deaths that are mended from the last checkpoint
GRACE_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its last report and checkpoint, and why it stopped early if it did."""

    metrics: dict[str, Any]
    checkpoint: Checkpoint | None
    failure: str | None


def run(trainer: TorchTrainer, model: TorchModel, run_id: str) -> Outcome:
    """Runs the trainer to its end.

    Workers stop by themselves at the deadline. The task is killed `GRACE_S` later, and all it started dies with it: Ray
    Train itself would wait for free CPUs, or for a rank that hangs, without limit.

    Raises:
        TrainingError: it had to be killed.
    """
    running = _fit.remote(trainer)
    ready, _ = ray.wait([running], timeout=model.deadline_s + GRACE_S)
    if not ready:
        ray.cancel(running, force=True)
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        raise TrainingError(
            f"training run {run_id} did not end {GRACE_S:g} s after its deadline of {model.deadline_s:g} s and was "
            f"killed. It needs {model.num_workers} free CPUs or GPUs; free now: {free}.",
            run_id=run_id,
        )
    outcome: Outcome = ray.get(running)
    return outcome


@ray.remote(num_cpus=0, max_retries=0)
def _fit(trainer: TorchTrainer) -> Outcome:
    try:
        result = trainer.fit()
    except TrainingFailedError as error:
        return Outcome({}, None, f"it failed {MAX_FAILURES + 1} times; the last time: {error}")
    return Outcome(dict(result.metrics or {}), result.checkpoint, getattr(result, "return_value", None))
