"""An A/B test decides by its interval, at fixed looks, on the rows that were dealt."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from app.errors import RolloutError
from app.rollout.analysis import Verdict
from app.rollout.decide import Phase
from app.rollout.experiment import run_experiment
from app.rollout.kpis import kpi_values
from app.rollout.policy_check import check_policy
from app.rollout.policy_json import policy_from_json, policy_to_json
from app.spec.policies import Experiment, Kpi, RolloutPolicy, SetWeight
from tests.unit.rollout.world import DAY, START, World

REVENUE = Kpi("revenue", f"{__name__}:revenue")
TEST = Experiment(REVENUE, min_units=50, tightest_at=2_000, max_duration=10 * DAY)
POLICY = RolloutPolicy(strategy="ab", steps=(SetWeight(50), TEST), progress_deadline=20 * DAY)


def revenue(rows: pl.DataFrame) -> pl.Series:
    """The KPI of a project: what was earned, known once the label is."""
    return rows["label"] * 10.0


def traffic(num_rows: int, lift: float, seed: int = 1, begin: datetime = START) -> pl.DataFrame:
    """Rows over nine days; the candidate's labels are higher by `lift`, each known an hour later."""
    generator = np.random.default_rng(seed)
    at = [begin + i * 9 * DAY / num_rows for i in range(num_rows)]
    assigned = np.where(generator.random(num_rows) < 0.5, "candidate", "champion")
    chance = 0.3 + lift * (assigned == "candidate")
    return pl.DataFrame(
        {
            "key": [f"k{i}" for i in range(num_rows)],
            "assigned": assigned,
            "answered_by": assigned,
            "score": chance,
            "error": pl.Series([None] * num_rows, dtype=pl.String),
            "label": (generator.random(num_rows) < chance).astype(float),
            "prediction_timestamp": pl.Series(at, dtype=pl.Datetime("us", "UTC")),
            "label_available_timestamp": pl.Series(
                [moment + timedelta(hours=1) for moment in at], dtype=pl.Datetime("us", "UTC")
            ),
        }
    )


def verdict_of(test: Experiment, rows: pl.DataFrame, now: datetime) -> Verdict:
    return run_experiment(test, rows, since=START, step_started_at=START, now=now).verdict


def test_better_worse_undecided() -> None:
    end = START + 11 * DAY
    assert verdict_of(TEST, traffic(4_000, 0.15), end) is Verdict.SUCCESSFUL
    assert verdict_of(TEST, traffic(4_000, -0.15), end) is Verdict.FAILED
    assert verdict_of(replace(TEST, kpi=replace(REVENUE, better="lower")), traffic(4_000, -0.15), end) is (
        Verdict.SUCCESSFUL
    )
    for undecided, verdict in (("abort", Verdict.FAILED), ("promote", Verdict.SUCCESSFUL),
                               ("pause", Verdict.INCONCLUSIVE)):
        assert verdict_of(replace(TEST, undecided=undecided), traffic(400, 0.0), end) is verdict  # type: ignore[arg-type]


def test_not_much_worse_is_enough_with_a_margin() -> None:
    assert verdict_of(replace(TEST, margin=2.0), traffic(4_000, 0.0), START + 11 * DAY) is Verdict.SUCCESSFUL


def test_the_outcome_does_not_depend_on_who_looks_when() -> None:
    rows = traffic(4_000, 0.15)
    early = [START + hours * timedelta(hours=5) for hours in range(60)]
    seen = [run_experiment(TEST, rows, since=START, step_started_at=START, now=now) for now in early]
    decided = [result.to_json() for result in seen if result.verdict is not Verdict.RUNNING]
    assert decided
    assert all(result == decided[0] for result in decided)


def test_nothing_is_decided_before_the_shortest_time() -> None:
    rows = traffic(4_000, 0.3)
    patient = replace(TEST, min_duration=7 * DAY)
    assert verdict_of(TEST, rows, START + 6 * DAY) is Verdict.SUCCESSFUL
    assert verdict_of(patient, rows, START + 6 * DAY) is Verdict.RUNNING
    assert verdict_of(patient, rows, START + 8 * DAY) is Verdict.SUCCESSFUL


def test_labels_count_once_they_are_known() -> None:
    late = pl.lit(START + 20 * DAY).cast(pl.Datetime("us", "UTC"))
    rows = traffic(400, 0.0).with_columns(label_available_timestamp=late)
    report = run_experiment(TEST, rows, since=START, step_started_at=START, now=START + 5 * DAY).experiment
    assert report is not None
    assert report["exposure"] == {"candidate": 0, "champion": 0}


def test_a_unit_counts_once_and_fallbacks_stay_with_their_side() -> None:
    rows = traffic(300, 0.0)
    twice = pl.concat([rows, rows]).with_columns(answered_by=pl.lit("champion"))
    report = run_experiment(TEST, twice, since=START, step_started_at=START, now=START + 11 * DAY).experiment
    assert report is not None
    assert sum(report["exposure"].values()) == 300
    assert report["exposure"]["candidate"] == rows.filter(pl.col("assigned") == "candidate").height


def test_rows_sent_by_header_are_left_out() -> None:
    rows = traffic(300, 0.0).with_columns(overridden=pl.Series([True] * 100 + [False] * 200))
    report = run_experiment(TEST, rows, since=START, step_started_at=START, now=START + 11 * DAY).experiment
    assert report is not None
    assert sum(report["exposure"].values()) == 200


@pytest.mark.parametrize("value", ["label", "log_loss", "squared_error", "score", "fallback"])
def test_built_in_kpis(value: str) -> None:
    rows = traffic(10, 0.0)
    found = kpi_values(Kpi("x", value), rows).to_numpy()
    label, score = rows["label"].to_numpy(), rows["score"].to_numpy()
    expected = {
        "label": label, "score": score, "squared_error": (score - label) ** 2, "fallback": np.zeros(10),
        "log_loss": -np.where(label == 1, np.log(score), np.log(1 - score)),
    }
    np.testing.assert_allclose(found, expected[value])


def test_a_kpi_that_gives_something_else_is_refused() -> None:
    with pytest.raises(RolloutError, match="gave 1 values of type String for 10 rows"):
        kpi_values(Kpi("odd", f"{__name__}:odd"), traffic(10, 0.0))


def odd(rows: pl.DataFrame) -> list[str]:
    return ["?"]


def test_policy_survives_json_and_is_checked() -> None:
    check_policy(POLICY)
    assert policy_from_json(policy_to_json(POLICY)) == POLICY
    for wrong, message in (
        (replace(POLICY, steps=(TEST,)), "runs at a weight of 0%"),
        (replace(POLICY, strategy="canary"), "with an Experiment step"),
        (replace(POLICY, steps=(SetWeight(50),)), "without an Experiment step"),
        (replace(POLICY, steps=(SetWeight(50), replace(TEST, alpha=2))), "expected alpha within"),
        (replace(POLICY, steps=(SetWeight(50), replace(TEST, kpi=Kpi("x", "profit")))), "expected one of label"),
    ):
        with pytest.raises(RolloutError, match=message):
            check_policy(wrong)


def test_controller_promotes_the_winner(world: World) -> None:
    controller = world.new_controller(POLICY)
    rollout = controller.start("m", "2", START)
    rows = traffic(4_000, 0.15)
    phase = controller.tick(rollout, START, rows)
    assert phase is Phase.PROGRESSING
    assert controller.tick(rollout, START + 10 * DAY, rows) is Phase.HEALTHY
    assert world.routing.current("m").champion == "2"
    report = controller.record.analyses(rollout)[1]["experiment"]
    assert report["decision"] == "candidate better"
    assert report["effect"]["low"] > 0


def test_controller_aborts_the_loser(world: World) -> None:
    controller = world.new_controller(POLICY)
    rollout = controller.start("m", "2", START)
    controller.tick(rollout, START, traffic(10, 0.0))
    assert controller.tick(rollout, START + 10 * DAY, traffic(4_000, -0.15)) is Phase.ABORTED
    assert "candidate worse, effect -" in controller.record.get(rollout).reason or any(
        "candidate worse, effect -" in t.reason for t in controller.record.transitions(rollout)
    )
