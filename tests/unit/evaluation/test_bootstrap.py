"""Intervals by resampling: paired, reproducible, and as wide as theory says."""

from __future__ import annotations

import numpy as np
import pytest

from app.evaluation.bootstrap import draw, paired_difference, with_intervals
from app.evaluation.metrics import METRICS, metrics_of


def world(num_rows: int = 2_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, its true probability, and a noisier guess of it."""
    random = np.random.default_rng(seed)
    truth = random.uniform(0.02, 0.98, num_rows)
    label = (random.uniform(size=num_rows) < truth).astype(float)
    return label, truth, np.clip(truth + random.normal(0, 0.3, num_rows), 0.01, 0.99)


def test_an_interval_holds_its_value_for_every_metric() -> None:
    label, truth, _ = world()
    for metrics in (metrics_of("binary"), metrics_of("regression")):
        for value, low, high in with_intervals(label, truth, metrics, 200).values():
            assert low <= value <= high
    assert METRICS["ece"](label, truth) < 0.05


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    label, truth, _ = world()
    value, low, high = with_intervals(label, truth, ["mae"])["mae"]
    error = np.abs(label - truth)
    assert (high - low) / 2 == pytest.approx(1.96 * error.std() / np.sqrt(len(error)), rel=0.1)
    assert value == pytest.approx(error.mean())


def test_an_interval_of_the_auc_covers_the_truth_about_as_often_as_it_claims() -> None:
    true_auc = METRICS["roc_auc"](*world(200_000, seed=0)[:2])
    covered = 0
    for seed in range(1, 101):
        label, truth, _ = world(400, seed)
        _, low, high = with_intervals(label, truth, ["roc_auc"], 200)["roc_auc"]
        covered += low <= true_auc <= high
    assert 88 <= covered <= 100


def test_a_better_model_is_better_whichever_way_the_metric_counts() -> None:
    label, truth, noisy = world()
    for metric in ("roc_auc", "log_loss", "brier", "pr_auc"):
        value, low, _ = paired_difference(label, truth, noisy, metric)
        assert value > 0 and low > 0


def test_models_are_resampled_together() -> None:
    label, truth, _ = world()
    assert paired_difference(label, truth, truth, "roc_auc") == (0.0, 0.0, 0.0)
    near = np.clip(truth + 0.001, 0, 1)
    _, low, high = paired_difference(label, truth, near, "log_loss")
    _, alone_low, alone_high = with_intervals(label, truth, ["log_loss"])["log_loss"]
    assert high - low < (alone_high - alone_low) / 10


def test_the_same_seed_gives_the_same_interval_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    label, truth, noisy = world(300)
    first = draw(label, {"a": truth, "b": noisy}, ["roc_auc", "ece"], 50)
    monkeypatch.setattr("app.evaluation.bootstrap.CHUNK_BYTES", 1)
    second = draw(label, {"a": truth, "b": noisy}, ["roc_auc", "ece"], 50)
    assert first.interval("a", "roc_auc") == second.interval("a", "roc_auc")
    assert first.difference("a", "b", "ece") == pytest.approx(second.difference("a", "b", "ece"))


def test_what_is_rare_or_absent_has_an_interval_of_what_exists() -> None:
    label, score = np.zeros(30), np.linspace(0.1, 0.9, 30)
    assert np.isnan(with_intervals(label, score, ["roc_auc"])["roc_auc"]).all()
    label[-1] = 1.0  # a third of the resamples hold no positive
    assert np.isfinite(with_intervals(label, score, ["roc_auc"])["roc_auc"]).all()
    assert np.isnan(with_intervals(np.zeros(0), np.zeros(0), ["brier"])["brier"]).all()
