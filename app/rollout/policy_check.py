"""Refuses a rollout policy that could never be followed, before anything is rolled out. Pure."""

from __future__ import annotations

from app.errors import RolloutError
from app.rollout.condition import parse_condition
from app.rollout.hooks import check_hook
from app.rollout.kpis import check_kpi
from app.rollout.mirror_measures import MIRROR_MEASURES
from app.rollout.plan import weight_at
from app.spec.policies import Analysis, Experiment, Hook, Mirror, RolloutPolicy, SetWeight


def check_policy(policy: RolloutPolicy) -> None:
    """Raises: RolloutError: no steps, a weight outside 0 to 100, or a metric that can never be judged."""
    if not policy.steps:
        raise RolloutError("the rollout policy has no steps; give at least SetWeight(…).")
    if any(isinstance(s, SetWeight) and not 0 <= s.percent <= 100 for s in policy.steps):
        raise RolloutError("a SetWeight of the rollout policy is outside 0 to 100 percent.")
    if any(isinstance(s, Analysis) for s in policy.steps) and not policy.metrics:
        raise RolloutError("the rollout policy has an Analysis step but no metrics to judge by.")
    for metric in policy.metrics:
        if (metric.kpi is None) == (metric.measure == "kpi_difference"):
            has = "without" if metric.kpi is None else "with"
            raise RolloutError(
                f"metric {metric.name!r} measures {metric.measure} {has} a KPI; give one with kpi_difference and "
                "with no other measure.",
                metric=metric.name,
            )
        if metric.kpi is not None:
            check_kpi(metric.kpi)
        parse_condition(metric.success_condition)
        parse_condition(metric.failure_condition)
        if metric.interval_s <= 0 or metric.count < 1:
            raise RolloutError(
                f"metric {metric.name!r} has interval {metric.interval_s} s and count {metric.count}; "
                "expected an interval above 0 and a count of at least 1.", metric=metric.name,
            )
    for index, step in enumerate(policy.steps):
        if isinstance(step, Experiment):
            _check_experiment(step, weight_at(policy, index))
        if isinstance(step, Hook):
            check_hook(step)
    weights = {step.percent for step in policy.steps if isinstance(step, SetWeight)}
    mirrored = [step.percent for step in policy.steps if isinstance(step, Mirror)]
    if any(not 0 <= percent <= 100 for percent in mirrored):
        raise RolloutError("a Mirror of the rollout policy is outside 0 to 100 percent.")
    if policy.strategy == "shadow" and (weights or not mirrored):
        raise RolloutError(
            "the rollout policy's strategy is 'shadow'; expected at least one Mirror and no SetWeight: use 'canary' to "
            "give the candidate rows of its own after a Mirror.",
            strategy=policy.strategy,
        )
    if any(metric.measure in MIRROR_MEASURES for metric in policy.metrics) and not mirrored:
        raise RolloutError("the rollout policy measures what is mirrored, but has no Mirror step.")
    given = ", ".join(f"{weight:g}%" for weight in sorted(weights))
    if policy.strategy == "blue-green" and weights != {100}:
        raise RolloutError(
            f"the rollout policy is blue-green with weights of {given or 'none'}; green takes all "
            "traffic at once: expected SetWeight(100) and no other.",
            strategy=policy.strategy,
        )
    has_experiment = any(isinstance(step, Experiment) for step in policy.steps)
    if (policy.strategy == "ab") != has_experiment:
        raise RolloutError(
            f"the rollout policy's strategy is {policy.strategy!r} {'with' if has_experiment else 'without'} an "
            "Experiment step; expected strategy 'ab' with at least one, or none.",
            strategy=policy.strategy,
        )


def _check_experiment(step: Experiment, weight_percent: float) -> None:
    check_kpi(step.kpi)
    if not 0 < weight_percent < 100:
        raise RolloutError(
            f"the experiment on {step.kpi.name!r} runs at a weight of {weight_percent:g}%; both sides need rows: put a "
            "SetWeight above 0 and below 100 before it.",
            kpi=step.kpi.name,
        )
    if not 0 < step.alpha < 1 or step.margin < 0 or step.interval_s <= 0 or step.min_duration > step.max_duration:
        raise RolloutError(
            f"the experiment on {step.kpi.name!r} has alpha {step.alpha:g}, margin {step.margin:g}, interval "
            f"{step.interval_s:g} s, {step.min_duration} to {step.max_duration}; expected alpha within (0, 1), a "
            "margin of 0 or more, an interval above 0 and a shortest duration below the longest.",
            kpi=step.kpi.name,
        )
