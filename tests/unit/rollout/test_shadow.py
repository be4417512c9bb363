"""A shadow rollout judges copies only, and the candidate has no traffic of its own before it is the champion."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from app.errors import RolloutError
from app.rollout.decide import Phase
from app.rollout.mirror_measures import measure_mirrored
from app.rollout.policy_json import policy_from_json, policy_to_json
from app.spec.policies import Analysis, AnalysisMetric, Mirror, Pause, RolloutPolicy, SetWeight
from tests.unit.rollout.world import DAY, NOTHING, START, World

SHADOW = RolloutPolicy(
    strategy="shadow",
    steps=(Mirror(50), Pause(DAY), Analysis()),
    metrics=(
        AnalysisMetric("errors", "mirror_error_rate", "result <= 0.01", "result > 0.05", min_rows=20),
        AnalysisMetric("loss", "mirror_log_loss_difference", "result <= 0.05", "result > 0.2", min_rows=20),
    ),
    progress_deadline=10 * DAY,
)


def copies(num_rows: int, *, num_failed: int = 0, mirror_score: float = 0.7, at: datetime = START) -> pl.DataFrame:
    failed = np.arange(num_rows) < num_failed
    return pl.DataFrame(
        {
            "request_id": [f"r{i}" for i in range(num_rows)],
            "score": [0.6] * num_rows,
            "mirror_score": [None if f else mirror_score for f in failed],
            "mirror_error": ["late" if f else None for f in failed],
            "latency_ms": [10.0] * num_rows,
            "mirror_latency_ms": [15.0] * num_rows,
            "label": [1.0] * num_rows,
            "label_available_timestamp": pl.Series([at] * num_rows, dtype=pl.Datetime("us", "UTC")),
            "prediction_timestamp": pl.Series([at] * num_rows, dtype=pl.Datetime("us", "UTC")),
        },
        schema_overrides={"mirror_score": pl.Float64, "mirror_error": pl.String},
    )


def test_measures_are_paired() -> None:
    rows = copies(100, num_failed=10)
    assert measure_mirrored("mirror_error_rate", rows).value == pytest.approx(0.1)
    assert measure_mirrored("mirror_score_difference", rows).value == pytest.approx(0.1)
    assert measure_mirrored("mirror_latency_ratio", rows).value == pytest.approx(1.5)
    loss = measure_mirrored("mirror_log_loss_difference", rows)
    assert (loss.value, loss.num_rows) == (pytest.approx(np.log(0.6) - np.log(0.7)), 90)
    for name in ("mirror_error_rate", "mirror_score_difference", "mirror_latency_ratio", "mirror_log_loss_difference"):
        assert measure_mirrored(name, pl.DataFrame()).value is None  # type: ignore[arg-type]


def test_promoted_without_ever_having_had_traffic(world: World) -> None:
    controller = world.new_controller(SHADOW)
    rollout = controller.start("m", "2", START)
    assert controller.tick(rollout, START, NOTHING) is Phase.PROGRESSING
    route = world.routing.current("m")
    assert (route.candidate, route.weight_percent, route.mirror_percent) == ("2", 0, 50)
    seen = copies(100, at=START + timedelta(hours=1))
    assert controller.tick(rollout, START + DAY, NOTHING, seen) is Phase.HEALTHY
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.mirror_percent) == ("2", None, 0)
    assert set(world.weights) == {0}


def test_aborted_by_what_it_said_to_copies(world: World) -> None:
    controller = world.new_controller(SHADOW)
    rollout = controller.start("m", "2", START)
    controller.tick(rollout, START, NOTHING)
    bad = copies(100, num_failed=30, at=START + timedelta(hours=1))
    assert controller.tick(rollout, START + DAY, NOTHING, bad) is Phase.ABORTED
    route = world.routing.current("m")
    assert (route.champion, route.candidate, route.mirror_percent) == ("1", None, 0)


def test_nothing_shown_is_not_success(world: World) -> None:
    controller = world.new_controller(SHADOW)
    rollout = controller.start("m", "2", START)
    controller.tick(rollout, START, NOTHING)
    assert controller.tick(rollout, START + DAY, NOTHING) is Phase.PROGRESSING
    assert controller.tick(rollout, START + 3 * DAY, NOTHING) is Phase.PAUSED


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (RolloutPolicy(strategy="shadow", steps=(Pause(DAY),)), "at least one Mirror"),
        (RolloutPolicy(strategy="shadow", steps=(Mirror(5), SetWeight(5))), "no SetWeight"),
        (RolloutPolicy(steps=(Mirror(500), SetWeight(5))), "outside 0 to 100"),
        (RolloutPolicy(steps=(SetWeight(5), Analysis()), metrics=SHADOW.metrics), "has no Mirror step"),
    ],
)
def test_policies_that_make_no_sense(world: World, policy: RolloutPolicy, message: str) -> None:
    with pytest.raises(RolloutError, match=message):
        world.new_controller(policy).start("m", "2", START)


def test_policy_survives_json() -> None:
    assert policy_from_json(policy_to_json(SHADOW)) == SHADOW
