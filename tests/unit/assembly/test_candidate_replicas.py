"""A candidate of a blue-green rollout gets the champion's number of replicas, and gives them back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from app.assembly.scale import RolloutPolicyReplicas, candidate_scale
from app.clock import WallClock
from app.foundation.state import StateDatabase
from app.rollout.record import RolloutRecord
from app.settings import Settings
from app.spec import RolloutPolicy, SetWeight
from app.spec.serving import ServingPolicy
from tests.cluster.serving_project import PROJECT

GREEN = RolloutPolicy(strategy="blue-green", steps=(SetWeight(100),))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTEXT: Any = SimpleNamespace(target_num_replicas=7)


@pytest.mark.parametrize(("policy", "expected"), [(GREEN, 3), (PROJECT.rollout, 1)])
def test_as_many_as_the_rollout_in_flight_wants(settings: Settings, policy: RolloutPolicy, expected: int) -> None:
    database = StateDatabase.open(settings.state_url)
    wanted = RolloutPolicyReplicas(settings.state_url, "shop", num_champions=3, num_idle=0)
    assert wanted(CONTEXT) == (0, {})
    RolloutRecord(database, WallClock()).create("shop", "1", "2", policy, NOW)
    assert wanted(CONTEXT) == (expected, {})


def test_a_database_that_is_away_changes_nothing(settings: Settings) -> None:
    away = f"sqlite:///{settings.home}/nowhere/state.db"
    assert RolloutPolicyReplicas(away, "shop", 3, 0)(CONTEXT) == (7, {})


def test_bounds_follow_the_project(settings: Settings) -> None:
    project = replace(PROJECT, rollout=GREEN, serving=ServingPolicy(num_replicas=3, candidate_idle_s=60.0))
    scaling = candidate_scale(project, settings)["autoscaling_config"]
    assert (scaling.min_replicas, scaling.max_replicas) == (0, 3)
    assert candidate_scale(PROJECT, settings) == {"num_replicas": 1}
