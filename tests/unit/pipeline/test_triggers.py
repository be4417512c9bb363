"""Retraining: what persists triggers, what is broken or too soon does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.pipeline.triggers import TriggerDecision, WindowOutcome, decide_retrain
from app.spec import DriftPolicy, RetrainPolicy

START = datetime(2013, 9, 1, tzinfo=UTC)
WEEK = timedelta(days=7)


def decide(*windows: tuple[bool, bool, float | None], **changes: Any) -> TriggerDecision:
    outcomes = [WindowOutcome(START + WEEK * (i + 1), *w) for i, w in enumerate(windows)]
    state: dict[str, Any] = {"last_retrain": None, "num_retrains": 0, "rollout_active": False, **changes}
    policy = RetrainPolicy(cooldown=4 * WEEK, max_retrains=2, max_log_loss_increase=0.05)
    return decide_retrain(outcomes, DriftPolicy(persistence=2), policy, **state)


DRIFT, CALM, BROKEN, WORSE = (True, False, 0.0), (False, False, 0.0), (True, True, 0.0), (False, False, 0.1)


@pytest.mark.parametrize(
    ("windows", "cause"),
    [
        ([DRIFT], None),
        ([DRIFT, DRIFT], "drift"),
        ([DRIFT, CALM, DRIFT], None),
        ([DRIFT, BROKEN], None),
        ([BROKEN, DRIFT], None),
        ([WORSE, WORSE], "performance"),
        ([WORSE, (False, False, None)], None),
    ],
)
def test_only_what_persists_and_is_not_broken_triggers(windows: list[Any], cause: str | None) -> None:
    assert decide(*windows).cause == cause


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rollout_active": True}, "rollout"),
        ({"num_retrains": 2}, "budget"),
        ({"last_retrain": START}, "cooling down"),
    ],
)
def test_what_holds_a_retraining_back_is_named(changes: dict[str, Any], reason: str) -> None:
    held = decide(DRIFT, DRIFT, **changes)
    assert held.cause is None and reason in held.reason


def test_after_the_cooldown_it_triggers_again() -> None:
    assert decide(DRIFT, DRIFT, last_retrain=START - 3 * WEEK, num_retrains=1).cause == "drift"
