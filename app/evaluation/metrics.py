"""Metrics of scores against truth, each a function of `(label, score)`; B = rows.

`HIGHER_IS_BETTER` says which way is good. Binary labels are 0 or 1 and scores probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats, Floats], float]
TINY = 1e-7  # probabilities are kept this far from 0 and 1 in logarithms


def roc_auc(label: Floats, score: Floats) -> float:
    """Chance that a positive scores above a negative, ties counting half; NaN with one class.

    >>> roc_auc(np.array([0., 0., 1., 1.]), np.array([.1, .4, .35, .8]))
    0.75
    """
    positives = float(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return float("nan")
    hits, last = _hits_by_score(label, score)
    first = np.append(0, last[:-1] + 1)
    rank = (first + last) / 2 + 1  # shared by all rows of one score
    rank_sum = float((np.diff(np.append(0.0, hits)) * rank).sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def pr_auc(label: Floats, score: Floats) -> float:
    """Average precision: precision summed over the steps in recall."""
    if not label.sum():
        return float("nan")
    hits, last = _hits_by_score(label, score)
    hits_above = (hits[-1] - np.append(0.0, hits[:-1]))[::-1]  # from the highest score down
    called = (len(label) - np.append(0, last[:-1] + 1))[::-1]
    return float((np.diff(np.append(0.0, hits_above)) * hits_above / called).sum() / hits[-1])


def log_loss(label: Floats, score: Floats) -> float:
    """Mean negative log likelihood."""
    p = np.clip(score, TINY, 1 - TINY)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log(1 - p)))


def brier(label: Floats, score: Floats) -> float:
    """Mean squared difference of probability and truth."""
    return float(np.mean((score - label) ** 2))


def ece(label: Floats, score: Floats, num_bins: int = 10) -> float:
    """Expected calibration error over bins of equal size, weighted by rows.

    Source: Nixon et al., "Measuring Calibration in Deep Learning" (2019), adaptive bins.
    """
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, min(num_bins, max(1, len(order))))
    gaps = [abs(score[p].mean() - label[p].mean()) * len(p) for p in parts if len(p)]
    return float(np.sum(gaps) / max(1, len(label)))


def accuracy(label: Floats, score: Floats) -> float:
    """Share of rows on the right side of one half."""
    return float(np.mean((score >= 0.5) == (label == 1)))


def precision(label: Floats, score: Floats) -> float:
    """Share of the rows called positive that are."""
    called = score >= 0.5
    return float(label[called].mean()) if called.any() else float("nan")


def recall(label: Floats, score: Floats) -> float:
    """Share of the positives that are called so."""
    positive = label == 1
    return float((score[positive] >= 0.5).mean()) if positive.any() else float("nan")


def f1(label: Floats, score: Floats) -> float:
    """Harmonic mean of precision and recall."""
    hits = float(((score >= 0.5) & (label == 1)).sum())
    total = float((score >= 0.5).sum() + (label == 1).sum())
    return 2 * hits / total if total else float("nan")


def mse(label: Floats, score: Floats) -> float:
    """Mean squared error."""
    return float(np.mean((score - label) ** 2))


def mae(label: Floats, score: Floats) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(score - label)))


def r2(label: Floats, score: Floats) -> float:
    """Share of the label's variance that is explained."""
    variance = float(np.var(label))
    return 1.0 - mse(label, score) / variance if variance else float("nan")


def _hits_by_score(label: Floats, score: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """By rising score, each once: positives up to it, and the last position that has it. Fast on sorted rows."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    return np.cumsum(label[order])[last], last


METRICS: dict[str, Metric] = {
    m.__name__: m for m in (roc_auc, pr_auc, log_loss, brier, ece, accuracy, precision, recall, f1, mse, mae, r2)
}
HIGHER_IS_BETTER = frozenset({"roc_auc", "pr_auc", "accuracy", "precision", "recall", "f1", "r2"})
