"""A rollout policy as JSON and back: a rollout keeps the policy it was started with."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

from app.errors import RolloutError
from app.spec.policies import (
    Analysis,
    AnalysisMetric,
    Experiment,
    Hook,
    Kpi,
    Mirror,
    Pause,
    RolloutPolicy,
    SetWeight,
    Step,
)

EXPERIMENT_DURATIONS = ("min_duration", "max_duration")


def policy_to_json(policy: RolloutPolicy) -> dict[str, Any]:
    """Durations become seconds."""
    return {
        "strategy": policy.strategy,
        "steps": [_step_to_json(step) for step in policy.steps],
        "metrics": [asdict(metric) for metric in policy.metrics],
        "progress_deadline_s": policy.progress_deadline.total_seconds(),
    }


def policy_from_json(value: dict[str, Any]) -> RolloutPolicy:
    """What `policy_to_json` wrote."""
    return replace(
        RolloutPolicy(),
        strategy=value["strategy"],
        steps=tuple(_step_from_json(step) for step in value["steps"]),
        metrics=tuple(_metric_from_json(metric) for metric in value["metrics"]),
        progress_deadline=timedelta(seconds=value["progress_deadline_s"]),
    )


def _metric_from_json(value: dict[str, Any]) -> AnalysisMetric:
    kpi = value.get("kpi")
    return AnalysisMetric(**{**value, "kpi": None if kpi is None else Kpi(**kpi)})


def _step_to_json(step: Step) -> dict[str, Any]:
    if isinstance(step, SetWeight):
        return {"set_weight": step.percent}
    if isinstance(step, Pause):
        return {"pause_s": step.duration.total_seconds()}
    if isinstance(step, Mirror):
        return {"mirror": step.percent}
    if isinstance(step, Hook):
        kept = {k: v for k, v in asdict(step).items() if k != "timeout"}
        return {"hook": {**kept, "timeout_s": step.timeout.total_seconds()}}
    if isinstance(step, Experiment):
        durations = {f"{name}_s": getattr(step, name).total_seconds() for name in EXPERIMENT_DURATIONS}
        kept = {k: v for k, v in asdict(step).items() if k not in EXPERIMENT_DURATIONS}
        return {"experiment": {**kept, **durations}}
    return {"analysis": True}


def _step_from_json(value: dict[str, Any]) -> Step:
    if "set_weight" in value:
        return SetWeight(value["set_weight"])
    if "pause_s" in value:
        return Pause(timedelta(seconds=value["pause_s"]))
    if "analysis" in value:
        return Analysis()
    if "mirror" in value:
        return Mirror(value["mirror"])
    if "hook" in value:
        kept = dict(value["hook"])
        timeout = timedelta(seconds=kept.pop("timeout_s"))
        return Hook(**kept, timeout=timeout)
    if "experiment" in value:
        kept = dict(value["experiment"])
        durations = {name: timedelta(seconds=kept.pop(f"{name}_s")) for name in EXPERIMENT_DURATIONS}
        return Experiment(**{**kept, **durations, "kpi": Kpi(**kept["kpi"])})
    raise RolloutError(f"stored step {value!r} is of no kind this version knows.", step=str(value))
