"""How many replicas there are: Serve's options from a project's serving policy, and the rule on latency."""

from __future__ import annotations

import logging
import math
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from sqlalchemy.exc import SQLAlchemyError

from app.clock import WallClock
from app.foundation.state import StateDatabase
from app.rollout.plan import candidate_replicas
from app.rollout.record import RolloutRecord
from app.settings import Settings
from app.spec import Project
from app.spec.serving import Autoscaling, ServingPolicy

logger = logging.getLogger(__name__)

CANDIDATE_UPSCALE_DELAY_S = 1.0  # an idle candidate is wanted at once when a rollout begins


def ingress_scale(policy: ServingPolicy, num_replicas: int | None = None) -> dict[str, Any]:
    """Options of the ingress: a fixed number of replicas, or the policy's autoscaling."""
    if num_replicas is not None or policy.autoscaling is None:
        return {"num_replicas": num_replicas or policy.num_replicas}
    return {"autoscaling_config": _autoscaling(policy.autoscaling)}


def candidate_scale(project: Project, settings: Settings) -> dict[str, Any]:
    """Options of the candidate: one replica; none while nobody asks for it; in blue-green as many as the champion."""
    policy = project.serving
    if project.rollout.strategy == "blue-green":
        return {"autoscaling_config": _as_many_as_rollouts_want(project, settings)}
    if not counts_requests(project):
        return {"num_replicas": 1}
    scaling = policy.autoscaling or Autoscaling(max_replicas=policy.num_replicas)
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=0, initial_replicas=1, max_replicas=scaling.max_replicas,
            target_ongoing_requests=scaling.target_ongoing_requests, upscale_delay_s=CANDIDATE_UPSCALE_DELAY_S,
            downscale_delay_s=scaling.downscale_delay_s, downscale_to_zero_delay_s=policy.candidate_idle_s,
        )
    }


def counts_requests(project: Project) -> bool:
    """Whether the candidate's number of replicas follows the requests that Serve counts, so that none may bypass it."""
    return project.rollout.strategy != "blue-green" and project.serving.candidate_idle_s is not None


def decide_replicas(
    num_replicas: int, num_ongoing: float, latency_ms: float, target_ongoing: float, max_latency_ms: float
) -> int:
    """Replicas wanted: for the requests in flight, and one more than now while answers are too slow.

    Fewer than now only while latency is below half the limit, so that the two rules don't take turns.

    >>> decide_replicas(2, 30.0, 5.0, 8.0, 20.0), decide_replicas(2, 4.0, 25.0, 8.0, 20.0)
    (4, 3)
    >>> decide_replicas(3, 4.0, 15.0, 8.0, 20.0), decide_replicas(3, 4.0, 5.0, 8.0, 20.0)
    (3, 1)
    """
    for_load = math.ceil(num_ongoing / target_ongoing)
    if latency_ms > max_latency_ms:
        return max(for_load, num_replicas + 1)
    return for_load if latency_ms < max_latency_ms / 2 else max(for_load, num_replicas)


class LatencyPolicy:
    """Serve's custom policy: `decide_replicas` on what the replicas report of themselves."""

    def __init__(self, target_ongoing: float, max_latency_ms: float) -> None:
        self._target_ongoing = target_ongoing
        self._max_latency_ms = max_latency_ms

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Replicas wanted, within the bounds that Serve was given."""
        reported = (context.aggregated_metrics or {}).get("latency_ms", {})
        wanted = decide_replicas(
            context.current_num_replicas, context.total_num_requests, max(reported.values(), default=0.0),
            self._target_ongoing, self._max_latency_ms,
        )
        low, high = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return max(low, min(high, wanted)), {}


class RolloutPolicyReplicas:
    """Serve's custom policy for a candidate: what the rollout in flight wants, read from the state database.

    While the database is away nothing changes.
    """

    def __init__(self, state_url: str, model: str, num_champions: int, num_idle: int) -> None:
        self._record = RolloutRecord(StateDatabase(state_url), WallClock())
        self._model = model
        self._num_champions = num_champions
        self._num_idle = num_idle

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Replicas wanted now."""
        try:
            running = self._record.in_flight(self._model)
        except SQLAlchemyError as error:
            logger.warning("state database cannot be reached (%s); the candidate keeps its replicas", error)
            return context.target_num_replicas, {}
        return (
            self._num_idle if running is None else candidate_replicas(running.policy, self._num_champions)
        ), {}


def _as_many_as_rollouts_want(project: Project, settings: Settings) -> AutoscalingConfig:
    num_champions = project.serving.least_replicas
    num_idle = 1 if project.serving.candidate_idle_s is None else 0
    return AutoscalingConfig(
        min_replicas=num_idle, initial_replicas=num_idle, max_replicas=num_champions,
        upscale_delay_s=0.0, downscale_delay_s=0.0, downscale_to_zero_delay_s=0.0,
        policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
            policy_function="app.assembly.scale:RolloutPolicyReplicas",
            policy_kwargs={
                "state_url": settings.state_url, "model": project.name, "num_champions": num_champions,
                "num_idle": num_idle,
            },
        ),
    )


def _autoscaling(scaling: Autoscaling) -> AutoscalingConfig:
    own: dict[str, Any] = {}
    if scaling.max_latency_ms is not None:
        own["policy"] = AutoscalingPolicy(  # type: ignore[no-untyped-call]
            policy_function="app.assembly.scale:LatencyPolicy",
            policy_kwargs={
                "target_ongoing": scaling.target_ongoing_requests, "max_latency_ms": scaling.max_latency_ms
            },
        )
    return AutoscalingConfig(
        min_replicas=scaling.min_replicas, max_replicas=scaling.max_replicas,
        target_ongoing_requests=scaling.target_ongoing_requests, upscale_delay_s=scaling.upscale_delay_s,
        downscale_delay_s=scaling.downscale_delay_s, **own,
    )
