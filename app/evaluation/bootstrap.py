"""Intervals by resampling rows; two models are resampled together, so their difference is paired."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from app.evaluation.metrics import HIGHER_IS_BETTER, METRICS, Floats

NUM_RESAMPLES = 200
Interval = tuple[float, float, float]  # value, low, high (95%)


def with_intervals(
    label: Floats, score: Floats, metrics: Sequence[str], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Each metric with its 95% percentile bootstrap interval.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13.
    """
    draws = {name: [] for name in metrics}
    for rows in _resamples(len(label), num_resamples, seed):
        for name in metrics:
            draws[name].append(METRICS[name](label[rows], score[rows]))
    return {name: (METRICS[name](label, score), *_bounds(draws[name])) for name in metrics}


def paired_difference(
    label: Floats, a: Floats, b: Floats, metric: str, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """How much better `a` is than `b` on the same rows (positive is better), with its 95% interval."""
    measure = METRICS[metric]
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    draws = [
        sign * (measure(label[rows], a[rows]) - measure(label[rows], b[rows]))
        for rows in _resamples(len(label), num_resamples, seed)
    ]
    return (sign * (measure(label, a) - measure(label, b)), *_bounds(draws))


def _resamples(num_rows: int, num_resamples: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, num_rows, num_rows) for _ in range(num_resamples)] if num_rows else []


def _bounds(draws: list[float]) -> tuple[float, float]:
    finite = np.array([d for d in draws if np.isfinite(d)])
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)
