"""Metrics equal scikit-learn's; intervals and gates judge as declared."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from app.evaluation.bootstrap import paired_difference, with_intervals
from app.evaluation.gates import Evaluation, judge
from app.evaluation.metrics import METRICS
from app.spec import Gate

PAIRS = {
    "roc_auc": reference.roc_auc_score,
    "pr_auc": reference.average_precision_score,
    "log_loss": reference.log_loss,
    "brier": reference.brier_score_loss,
    "mse": reference.mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
    "accuracy": lambda y, s: reference.accuracy_score(y, s >= 0.5),
    "f1": lambda y, s: reference.f1_score(y, s >= 0.5),
    "precision": lambda y, s: reference.precision_score(y, s >= 0.5),
    "recall": lambda y, s: reference.recall_score(y, s >= 0.5),
}


@pytest.mark.parametrize("name", sorted(PAIRS))
@given(seed=st.integers(0, 10_000))
def test_a_metric_equals_its_reference_ties_included(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    label = np.append(random.integers(0, 2, 60), [0, 1]).astype(float)
    score = np.append(random.integers(1, 20, 60) / 20, [0.9, 0.6])
    assert METRICS[name](label, score) == pytest.approx(PAIRS[name](label, score), abs=1e-9)


def test_one_class_has_no_auc() -> None:
    assert np.isnan(METRICS["roc_auc"](np.ones(3), np.array([0.1, 0.2, 0.3])))


def world(num_rows: int = 2_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, its true probability, and a noisier guess of it."""
    random = np.random.default_rng(1)
    truth = random.uniform(0.02, 0.98, num_rows)
    label = (random.uniform(size=num_rows) < truth).astype(float)
    return label, truth, np.clip(truth + random.normal(0, 0.3, num_rows), 0.01, 0.99)


def test_an_interval_holds_its_value_and_a_perfectly_calibrated_score_has_a_small_error() -> None:
    label, truth, _ = world()
    for value, low, high in with_intervals(label, truth, ["roc_auc", "log_loss"]).values():
        assert low <= value <= high
    assert METRICS["ece"](label, truth) < 0.05


def test_a_better_model_is_better_whichever_way_the_metric_counts() -> None:
    label, truth, noisy = world()
    for metric in ("roc_auc", "log_loss"):
        value, low, _ = paired_difference(label, truth, noisy, metric)
        assert value > 0 and low > 0


def test_a_gate_stops_a_worse_challenger_and_lets_a_better_one_pass() -> None:
    label, truth, noisy = world()
    gate = Gate("beside champion", "log_loss", "not_worse_than_champion", 0.005)
    rows = pd.DataFrame({"side": np.where(np.arange(len(label)) % 2, "a", "b")})
    assert judge([gate], Evaluation(rows, label, truth, noisy, None)).passed
    verdict = judge([gate], Evaluation(rows, label, noisy, truth, None))
    assert not verdict.passed and "beside champion" in verdict.reason


def test_a_slice_can_fail_alone_and_a_small_one_is_only_reported() -> None:
    label, truth, noisy = world()
    rows = pd.DataFrame({"side": ["bad"] * 900 + ["good"] * 1_090 + ["tiny"] * 10})
    mixed = np.where(rows["side"] == "bad", noisy, truth)
    gate = Gate("each side", "log_loss", "not_worse_than_champion", 0.005, slice_column="side")
    by_slice = {r.slice: r.passed for r in judge([gate], Evaluation(rows, label, mixed, truth, None)).results}
    assert by_slice == {"side=bad": False, "side=good": True, "side=tiny": None}


def test_without_a_champion_there_is_nothing_to_lose_but_too_few_rows_fail() -> None:
    label, truth, _ = world(100)
    rows = pd.DataFrame(index=range(100))
    champion_gate = Gate("c", "log_loss", "not_worse_than_champion", 0.0, min_rows=50)
    assert judge([champion_gate], Evaluation(rows, label, truth, None, None)).passed
    assert not judge([Gate("floor", "roc_auc", "at_least", 0.5)], Evaluation(rows, label, truth, None, None)).passed
