"""From a rollout's phase and step to the traffic it wants. Pure.

Steps `0 … n-1` are the policy's. While promoting, step `n` means prepared and step `n + 1` switched.
"""

from __future__ import annotations

from dataclasses import replace

from app.rollout.decide import Phase
from app.serving.routing import Route
from app.spec.policies import Analysis, Experiment, Hook, Mirror, Pause, RolloutPolicy, SetWeight, Step


def describe_step(step: Step) -> str:
    """A step in words.

    >>> describe_step(SetWeight(10))
    'weight 10%'
    """
    match step:
        case SetWeight(percent):
            return f"weight {percent:g}%"
        case Pause(duration):
            return f"pause {duration}"
        case Mirror(percent):
            return f"mirror {percent:g}%"
        case Experiment(kpi):
            return f"experiment on {kpi.name}"
        case Hook(name):
            return f"hook {name}"
        case Analysis():
            return "analysis"


def weight_at(policy: RolloutPolicy, step_index: int) -> float:
    """The weight in force at a step: of the last `SetWeight` up to it, 0 before the first."""
    weights = [step.percent for step in policy.steps[: step_index + 1] if isinstance(step, SetWeight)]
    return weights[-1] if weights else 0.0


def mirror_at(policy: RolloutPolicy, step_index: int) -> float:
    """The share of the champion's rows that the candidate is shown at a step: of the last `Mirror` up to it."""
    shares = [step.percent for step in policy.steps[: step_index + 1] if isinstance(step, Mirror)]
    return shares[-1] if shares else 0.0


def weight_step(policy: RolloutPolicy, step_index: int) -> int:
    """The step that set the traffic in force, -1 before the first."""
    changes = (i for i, s in enumerate(policy.steps[: step_index + 1]) if isinstance(s, SetWeight | Mirror))
    return max(changes, default=-1)


def candidate_replicas(policy: RolloutPolicy, num_champions: int) -> int:
    """How many replicas a candidate must have before it gets traffic: in blue-green as many as the champion."""
    return num_champions if policy.strategy == "blue-green" else 1


def switched(policy: RolloutPolicy, phase: Phase, step_index: int) -> bool:
    """Whether the promotion has passed the point of no return."""
    return phase is Phase.HEALTHY or (phase is Phase.PROMOTING and step_index > len(policy.steps))


def wanted_route(
    current: Route,
    policy: RolloutPolicy,
    phase: Phase,
    step_index: int,
    *,
    rollout_id: str,
    champion: str,
    candidate: str,
) -> Route:
    """The traffic that phase and step ask for; its epoch is the current one's."""
    with_candidate = replace(
        current, champion=champion, candidate=candidate, rollout_id=rollout_id, prepare=None,
        weight_percent=weight_at(policy, step_index), mirror_percent=mirror_at(policy, step_index),
    )
    alone = replace(with_candidate, candidate=None, weight_percent=0.0, mirror_percent=0.0)
    if switched(policy, phase, step_index):
        return replace(alone, champion=candidate)
    if phase in (Phase.DEGRADED, Phase.ABORTED):
        return alone
    if phase is Phase.PENDING:
        return replace(with_candidate, weight_percent=0.0, mirror_percent=0.0)
    if phase is Phase.PROMOTING:
        if policy.strategy == "rollback":
            return replace(alone, prepare=candidate)
        return replace(with_candidate, prepare=candidate)
    return with_candidate
