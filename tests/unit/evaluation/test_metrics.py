"""Metrics equal scikit-learn's, ties, weights, one class and constant scores included."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st

from app.evaluation import ranking
from app.evaluation.calibration import calibration_line, reliability, wilson
from app.evaluation.metrics import METRICS, metrics_of

BINARY = {
    "roc_auc": reference.roc_auc_score,
    "pr_auc": reference.average_precision_score,
    "log_loss": reference.log_loss,
    "brier": reference.brier_score_loss,
    "accuracy": lambda y, s, **w: reference.accuracy_score(y, s >= 0.5, **w),
    "f1": lambda y, s, **w: reference.f1_score(y, s >= 0.5, **w),
    "precision": lambda y, s, **w: reference.precision_score(y, s >= 0.5, **w),
    "recall": lambda y, s, **w: reference.recall_score(y, s >= 0.5, **w),
}
VALUES = {
    "mse": reference.mean_squared_error,
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
    "mape": reference.mean_absolute_percentage_error,
}


def rows(task: str, seed: int, num_rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Random labels and scores with many ties; both classes, and calls on both sides of one half."""
    random = np.random.default_rng(seed)
    if task == "regression":
        return random.uniform(1, 9, num_rows), random.normal(5, 3, num_rows).round(1)
    label = np.append(random.integers(0, 2, num_rows), [0, 1, 1]).astype(float)
    return label, np.append(random.integers(1, 20, num_rows) / 20, [0.9, 0.6, 0.2])


@pytest.mark.parametrize(("task", "name"), [("binary", n) for n in BINARY] + [("regression", n) for n in VALUES])
@given(seed=st.integers(0, 10_000))
def test_a_metric_equals_its_reference_and_so_it_does_with_rows_drawn_twice_or_never(
    task: str, name: str, seed: int
) -> None:
    label, score = rows(task, seed)
    expected = {**BINARY, **VALUES}[name]
    assert METRICS[name](label, score) == pytest.approx(expected(label, score), abs=1e-9)
    counts = np.random.default_rng(seed + 1).integers(0, 4, len(label)).astype(float)
    counts[-3:] = np.maximum(counts[-3:], 1)  # both classes stay
    weighted = METRICS[name].prepare(label, score)(counts[None])[0]
    assert weighted == pytest.approx(expected(label, score, sample_weight=counts), abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
@given(seed=st.integers(0, 1_000))
def test_the_order_of_rows_and_of_weights_does_not_matter(name: str, seed: int) -> None:
    """Scores differ here: which of two equal scores falls into a lower calibration bin is the rows' order."""
    random = np.random.default_rng(seed)
    label, score = random.integers(0, 2, 50).astype(float), random.permutation(50) / 50
    order = random.permutation(50)
    assert METRICS[name](label, score) == pytest.approx(METRICS[name](label[order], score[order]), nan_ok=True)
    weights = random.integers(0, 3, (4, 50)).astype(float)
    at_once = METRICS[name].prepare(label, score)(weights)
    one_by_one = [METRICS[name].prepare(label, score)(each[None])[0] for each in weights]
    assert at_once == pytest.approx(one_by_one, nan_ok=True)


@pytest.mark.parametrize("name", [*BINARY, "ece"])
@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_is_judged_where_it_can_be_and_nan_where_it_cannot(name: str, only: float) -> None:
    label, score = np.full(4, only), np.array([0.1, 0.6, 0.6, 0.9])
    value = METRICS[name](label, score)
    unknown = {"roc_auc": True, "pr_auc": only == 0, "recall": only == 0}.get(name, False)
    assert np.isnan(value) == unknown


def test_constant_scores_rank_nothing_and_have_the_base_rate_as_precision() -> None:
    label, score = np.array([0.0, 1.0, 0.0, 0.0]), np.full(4, 0.25)
    assert METRICS["roc_auc"](label, score) == 0.5
    assert METRICS["pr_auc"](label, score) == 0.25
    assert np.isnan(METRICS["precision"](label, score)) and np.isnan(calibration_line(label, score)[0])


@pytest.mark.parametrize("name", METRICS)
def test_no_rows_have_no_metric(name: str) -> None:
    assert np.isnan(METRICS[name](np.zeros(0), np.zeros(0)))


def test_every_task_has_its_metrics_and_a_label_of_zero_has_no_relative_error() -> None:
    assert set(metrics_of("binary")) == {*BINARY, "ece"}
    assert set(metrics_of("regression")) == {*VALUES, "wape"}
    label, score = np.array([0.0, 2.0]), np.array([1.0, 1.0])
    assert METRICS["mape"](label, score) == 0.5 and METRICS["wape"](label, score) == 1.0
    assert np.isnan(METRICS["r2"](np.ones(5), np.arange(5.0)))


@given(seed=st.integers(0, 10_000))
def test_curves_bound_the_areas(seed: int) -> None:
    label, score = rows("binary", seed)
    rates = ranking.roc_curve(label, score)
    assert np.trapezoid(rates[1], rates[0]) == pytest.approx(METRICS["roc_auc"](label, score))
    recall, precision = ranking.pr_curve(label, score)
    assert np.diff(np.append(0.0, recall)) @ precision == pytest.approx(METRICS["pr_auc"](label, score))


def test_the_calibration_line_tells_too_extreme_from_too_low() -> None:
    random = np.random.default_rng(1)
    log_odds = random.normal(0, 1.5, 60_000)
    label = (random.uniform(size=60_000) < 1 / (1 + np.exp(-log_odds))).astype(float)
    for stretch, shift in ((1.0, 0.0), (2.0, 0.0), (1.0, -1.0)):
        slope, intercept = calibration_line(label, 1 / (1 + np.exp(-(stretch * log_odds + shift))))
        assert slope == pytest.approx(1 / stretch, abs=0.05)
        assert intercept == pytest.approx(-shift / stretch, abs=0.06)


def test_separated_classes_have_no_line() -> None:
    assert np.isnan(calibration_line(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.8, 0.9]))[0])


def test_the_reliability_curve_covers_every_row_and_its_intervals_hold_what_was_seen() -> None:
    label, score = rows("binary", 3, 500)
    bins = reliability(label, score)
    assert sum(b.num_rows for b in bins) == len(label)
    assert all(b.low <= b.observed <= b.high for b in bins)
    assert wilson(0.0, 20)[0] == 0.0 and wilson(0.0, 20)[1] > 0.1
