"""When the loop retrains. Pure: what the windows said, what the policy allows, one decision with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.spec.policies import DriftPolicy, RetrainPolicy


@dataclass(frozen=True)
class WindowOutcome:
    """One closed window. `loss_increase`: log loss against the champion's at validation, `None` without labels."""

    end: datetime
    drifted: bool
    broken: bool
    loss_increase: float | None


@dataclass(frozen=True)
class TriggerDecision:
    """`cause`: drift, performance, or `None` for no retraining; `reason` says why either way."""

    cause: str | None
    reason: str


def decide_retrain(
    windows: Sequence[WindowOutcome],
    drift: DriftPolicy,
    policy: RetrainPolicy,
    *,
    last_retrain: datetime | None,
    num_retrains: int,
    rollout_active: bool,
) -> TriggerDecision:
    """Decides after the newest window.

    Broken data blocks first; then one at a time, budget, cooldown; then the triggers, each only when it has
    persisted over the policy's windows.
    """
    newest = windows[-1]
    if newest.broken:
        return TriggerDecision(None, "blocked: data is broken")
    if rollout_active:
        return TriggerDecision(None, "blocked: a rollout is under way")
    if num_retrains >= policy.max_retrains:
        return TriggerDecision(None, f"blocked: budget of {policy.max_retrains} retrainings is used up")
    recent = windows[-drift.persistence :]
    enough = len(recent) == drift.persistence
    cause = None
    if policy.on_drift and enough and all(w.drifted and not w.broken for w in recent):
        cause, reason = "drift", f"drift in {len(recent)} windows in a row"
    worse = [w.loss_increase for w in recent if w.loss_increase is not None]
    if policy.on_performance and enough and len(worse) == len(recent) and min(worse) > policy.max_log_loss_increase:
        cause, reason = "performance", f"loss up by at least {min(worse):.3f} in {len(recent)} windows in a row"
    if cause is None:
        return TriggerDecision(None, "nothing persisted")
    if last_retrain is not None and newest.end - last_retrain < policy.cooldown:
        return TriggerDecision(None, f"{reason}, but cooling down until {last_retrain + policy.cooldown:%Y-%m-%d}")
    return TriggerDecision(cause, reason)
