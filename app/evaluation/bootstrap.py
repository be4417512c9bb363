"""Intervals by resampling rows; two models are resampled together, so their difference is paired.

Rows are sorted by score once and a resample repeats each by its count, so that metrics which sort find sorted rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from app.evaluation.metrics import HIGHER_IS_BETTER, METRICS, Floats

NUM_RESAMPLES = 200
Interval = tuple[float, float, float]  # value, low, high (95%)


def with_intervals(
    label: Floats, score: Floats, metrics: Sequence[str], num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Each metric with its 95% percentile bootstrap interval.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13.
    """
    draws: dict[str, list[float]] = {name: [] for name in metrics}
    rows = _Sorted(label, score)
    for counts in _resamples(len(label), num_resamples, seed):
        drawn = rows.repeated(counts)
        for name in metrics:
            draws[name].append(METRICS[name](*drawn))
    return {name: (METRICS[name](label, score), *_bounds(draws[name])) for name in metrics}


def paired_difference(
    label: Floats, a: Floats, b: Floats, metric: str, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> Interval:
    """How much better `a` is than `b` on the same rows (positive is better), with its 95% interval."""
    measure = METRICS[metric]
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    rows_a, rows_b = _Sorted(label, a), _Sorted(label, b)
    draws = [
        sign * (measure(*rows_a.repeated(counts)) - measure(*rows_b.repeated(counts)))
        for counts in _resamples(len(label), num_resamples, seed)
    ]
    return (sign * (measure(label, a) - measure(label, b)), *_bounds(draws))


class _Sorted:
    """Labels and scores by rising score."""

    def __init__(self, label: Floats, score: Floats) -> None:
        self._order = np.argsort(score, kind="stable")
        self._label, self._score = label[self._order], score[self._order]

    def repeated(self, counts: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Each row as often as `counts` [B], in the original order of rows, says."""
        times = counts[self._order]
        return np.repeat(self._label, times), np.repeat(self._score, times)


def _resamples(num_rows: int, num_resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each row is drawn, one array [B] per resample."""
    random = np.random.default_rng(seed)
    for _ in range(num_resamples if num_rows else 0):
        yield np.bincount(random.integers(0, num_rows, num_rows), minlength=num_rows)


def _bounds(draws: list[float]) -> tuple[float, float]:
    finite = np.array([d for d in draws if np.isfinite(d)])
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [0.025, 0.975])
    return float(low), float(high)
