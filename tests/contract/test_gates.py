"""What every kind of gate promises: numbers, a reason, no effects, and no pass without evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from app.errors import ProjectError
from app.evaluation.behaviour import try_behaviour
from app.evaluation.gates import JUDGES, Evaluation, ServingMeasure, judge
from app.evaluation.gates.serving import MAX_SCORE_DIFFERENCE
from app.evaluation.metrics import METRICS, Floats, metrics_of
from app.spec import (
    CalibrationGate,
    Direction,
    FairnessGate,
    Gate,
    GoldenRow,
    GoldenRows,
    Invariance,
    ServingGate,
)
from app.spec.gates import GATED_METRICS, AnyGate, GateKind, check_gates

NUM_ROWS = 4_000
RANDOM = np.random.default_rng(4)
ROWS = pd.DataFrame(
    {
        "heat": RANDOM.normal(0, 1.5, NUM_ROWS),
        "site": RANDOM.choice(["north", "south"], NUM_ROWS),
        "key": np.arange(NUM_ROWS),
    }
)


def sound(rows: pd.DataFrame) -> Floats:
    """The true chance: it rises with heat and knows no site."""
    return np.asarray(1 / (1 + np.exp(-pd.to_numeric(rows["heat"]).fillna(0.0).to_numpy(dtype=np.float64))))


def unsound(rows: pd.DataFrame) -> Floats:
    """Falls with heat, is far too sure, and looks at the site."""
    lift = np.where(rows["site"].astype(str) == "north", 2.0, -2.0)
    return np.asarray(1 / (1 + np.exp(4 * pd.to_numeric(rows["heat"]).fillna(0.0).to_numpy(dtype=np.float64) - lift)))


LABEL = (RANDOM.uniform(size=NUM_ROWS) < sound(ROWS)).astype(float)
SERVABLE = ServingMeasure(export_difference=1e-7, load_s=0.1, p50_ms=1.0, p99_ms=2.0, memory_bytes=10, num_rows=100)
SLOW = replace(SERVABLE, p99_ms=500.0)
GOLDEN = GoldenRows("golden", (GoldenRow({"heat": 0.0, "site": "north"}, 0.5, 0.01),))


@dataclass(frozen=True)
class Case:
    """A gate that a sound challenger passes, beside a champion of the kind given, and an unsound one fails."""

    gate: AnyGate
    champion: Callable[[pd.DataFrame], Floats] = sound

    def __str__(self) -> str:
        return f"{type(self.gate).__name__}-{getattr(self.gate, 'kind', getattr(self.gate, 'measure', ''))}"


CASES = [
    Case(Gate("floor", "roc_auc", "at_least", 0.7)),
    Case(Gate("ceiling", "log_loss", "at_most", 0.65, slice_column="site")),
    Case(Gate("beside_champion", "log_loss", "not_worse_than_champion", 0.01)),
    Case(Gate("beside_baseline", "brier", "not_worse_than_baseline", 0.01, slice_column="site")),
    Case(Gate("better", "pr_auc", "better_than_champion", 0.0), champion=unsound),
    Case(Gate("much_better", "roc_auc", "better_than_baseline", 0.0), champion=unsound),
    Case(CalibrationGate("calibrated")),
    Case(CalibrationGate("calibrated_by_site", slice_column="site")),
    Case(FairnessGate("opportunity", "site", "true_positive_rate", 0.15)),
    Case(FairnessGate("alarms", "site", "false_positive_rate", 0.15)),
    Case(FairnessGate("selection", "site", "selection_rate", 0.15)),
    Case(FairnessGate("means_the_same", "site", "calibration", 0.15)),
    Case(Invariance("any_site", "site", ("north", "south"), 0.001)),
    Case(Direction("hotter_is_worse", "heat", 0.5)),
    Case(GOLDEN),
    Case(ServingGate()),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def evaluation(
    case: Case, predict: Callable[[pd.DataFrame], Floats], rows: pd.DataFrame = ROWS, serving: ServingMeasure = SERVABLE
) -> Evaluation:
    """The challenger `predict` beside the case's champion and baseline."""
    other = case.champion(rows)
    label = LABEL[rows["key"]]
    return Evaluation(rows, label, predict(rows), other, other, try_behaviour([case.gate], predict, rows), serving)


@every_case
def test_a_sound_challenger_passes_and_an_unsound_one_fails(case: Case) -> None:
    good = judge([case.gate], evaluation(case, sound))
    assert good.passed and any(r.passed for r in good.results), good.reason
    bad = judge([case.gate], evaluation(case, unsound, serving=SLOW))
    assert not bad.passed and any(r.passed is False for r in bad.results)


@every_case
def test_every_result_names_its_gate_its_bound_and_its_reason_and_goes_into_json(case: Case) -> None:
    for predict, serving in ((sound, SERVABLE), (unsound, SLOW)):
        verdict = judge([case.gate], evaluation(case, predict, serving=serving))
        assert verdict.results
        for result in verdict.results:
            assert result.gate == case.gate.name and result.reason.startswith(case.gate.name)
            assert len(result.reason) > len(case.gate.name) + 10
            assert result.passed is not None and result.value is not None
            assert (result.slice or "") in result.reason
            if result.low is not None and result.high is not None:
                assert result.low <= result.value <= result.high
        failed = [r for r in verdict.results if r.passed is False]
        assert all(r.reason in verdict.reason for r in failed)
        assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["passed"] == verdict.passed


@every_case
def test_judging_changes_nothing_and_judges_the_same_again(case: Case) -> None:
    given = evaluation(case, unsound)
    before = given.rows.copy()
    first = judge([case.gate], given)
    again = judge([case.gate], evaluation(case, unsound))
    assert first.to_json() == again.to_json()
    pd.testing.assert_frame_equal(given.rows, before)


@every_case
def test_without_evidence_nothing_passes(case: Case) -> None:
    few = ROWS.head(20)
    bare = Evaluation(few, LABEL[:20], sound(few), None, None)
    assert not any(r.passed for r in judge([case.gate], bare).results)


@pytest.mark.parametrize("kind", ["not_worse_than_champion", "better_than_champion"])
def test_an_equal_challenger_is_no_worse_and_no_improvement(kind: GateKind) -> None:
    gate = Gate("beside", "log_loss", kind, 0.0)
    verdict = judge([gate], Evaluation(ROWS, LABEL, sound(ROWS), sound(ROWS), None))
    assert verdict.passed == (kind == "not_worse_than_champion")
    if not verdict.passed:
        assert "the champion stays" in verdict.reason and "no improvement" in verdict.reason


def test_a_first_model_has_no_champion_to_be_compared_with() -> None:
    gates = [Gate("a", "log_loss", "not_worse_than_champion", 0.0), Gate("b", "log_loss", "better_than_champion", 0.0)]
    verdict = judge(gates, Evaluation(ROWS, LABEL, sound(ROWS), None, None))
    assert verdict.passed and [r.passed for r in verdict.results] == [None, None]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (ServingMeasure(problem="ModelError: a file was changed"), "loads"),
        (replace(SERVABLE, schema_problems=("a row of nulls scored [nan]",)), "schema"),
        (replace(SERVABLE, score_difference=10 * MAX_SCORE_DIFFERENCE), "same scores"),
        (SLOW, "latency"),
        (replace(SERVABLE, memory_bytes=3 * 2**30), "memory"),
    ],
)
def test_each_serving_check_can_fail_alone(broken: ServingMeasure, check: str) -> None:
    verdict = judge([ServingGate()], Evaluation(ROWS, LABEL, sound(ROWS), None, None, serving=broken))
    assert [r.slice for r in verdict.results if r.passed is False] == [check]


def test_an_export_without_a_note_is_not_judged() -> None:
    given = Evaluation(ROWS, LABEL, sound(ROWS), None, None, serving=replace(SERVABLE, export_difference=None))
    by_check = {r.slice: r.passed for r in judge([ServingGate()], given).results}
    assert by_check["exported equals trained"] is None and by_check["latency"]


def test_every_kind_is_judged_and_in_this_suite() -> None:
    declared = set(get_args(AnyGate))
    assert set(JUDGES) == declared == {type(case.gate) for case in CASES}
    assert {c.gate.kind for c in CASES if isinstance(c.gate, Gate)} == set(get_args(GateKind))


def test_the_metrics_a_gate_may_name_are_those_there_are() -> None:
    assert set(GATED_METRICS["binary"]) == set(metrics_of("binary"))
    assert set(GATED_METRICS["regression"]) == set(metrics_of("regression"))
    assert set(METRICS) == {name for names in GATED_METRICS.values() for name in names}


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        (Gate("g", "mae", "at_most", 1.0), "roc_auc"),
        (Gate("g", "brier", "at_most", 1.0, slice_column="nowhere"), "there is no column 'nowhere'"),
        (FairnessGate("g", "nowhere"), "there is no column"),
        (Invariance("g", "key", ("a",), 0.1), "there is no column 'key'"),
        (Invariance("g", "site", (), 0.1), "values is empty"),
        (Direction("g", "heat", -1.0), "above 0"),
        (Direction("g", "heat", 1.0, max_share=1.0), "max_share"),
        (GoldenRows("g", (GoldenRow({"heat": 1.0}, 0.5, 0.1),)), "lacks site"),
    ],
)
def test_a_gate_that_could_never_be_judged_is_refused(gate: AnyGate, told: str) -> None:
    with pytest.raises(ProjectError, match=told):
        check_gates([gate], "binary", frozenset({"heat", "site"}), frozenset({"key"}))


@pytest.mark.parametrize("gate", [CalibrationGate("g"), FairnessGate("g", "site"), Gate("g", "roc_auc", "at_least", 0)])
def test_what_needs_probabilities_is_refused_for_a_regression(gate: AnyGate) -> None:
    with pytest.raises(ProjectError, match="'g'"):
        check_gates([gate], "regression", frozenset({"site"}), frozenset())
    check_gates([FairnessGate("g", "site", "calibration")], "regression", frozenset({"site"}), frozenset())
