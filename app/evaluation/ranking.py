"""What only the order of scores decides, under row weights: ROC and PR curves and the areas under them.

Legend: B = rows, R = sets of weights, G = distinct scores by rising score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """Rows by rising score. `starts` [G]: where each distinct score begins; `None` when all scores differ."""

    order: npt.NDArray[np.int64]
    label: Floats
    starts: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, label: Floats, score: Floats) -> Ranked:
        """Sorts once; every set of weights then only adds up."""
        order = np.argsort(score, kind="stable")
        changes = np.flatnonzero(np.diff(score[order]) != 0) + 1
        starts = None if len(changes) == len(order) - 1 else np.append(0, changes)
        return cls(order, label[order], starts)

    def counts(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weight of positives and of all rows per distinct score, each [G], for weights [B]."""
        ordered = weights[self.order]
        positives = ordered * self.label
        if self.starts is None:
            return positives, ordered
        return np.add.reduceat(positives, self.starts), np.add.reduceat(ordered, self.starts)


def roc_auc(label: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """Chance that a positive scores above a negative, ties counting half; NaN with one class."""

    def area(positives: Floats, rows: Floats) -> float:
        negatives = rows - positives
        below = np.cumsum(negatives)
        num_positives, num_negatives = positives.sum(), below[-1]
        if num_positives <= 0 or num_negatives <= 0:
            return float("nan")
        return float((positives @ below - 0.5 * (positives @ negatives)) / (num_positives * num_negatives))

    return _per_weights(label, score, area)


def pr_auc(label: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """Average precision: precision summed over the steps in recall; NaN without positives."""

    def area(positives: Floats, rows: Floats) -> float:
        hits, called = np.cumsum(positives[::-1]), np.cumsum(rows[::-1])  # from the highest score down
        if hits[-1] <= 0:
            return float("nan")
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        return float(positives[::-1] @ precision / hits[-1])

    return _per_weights(label, score, area)


def roc_curve(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """False and true positive rates [G + 1] from the highest threshold down; NaN where a class is missing."""
    hits, called = _from_the_top(label, score)
    with np.errstate(invalid="ignore"):
        return (called - hits) / (called[-1] - hits[-1]), hits / hits[-1]


def pr_curve(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    """Recall and precision [G] from the highest threshold down."""
    hits, called = (values[1:] for values in _from_the_top(label, score))
    with np.errstate(invalid="ignore"):
        return hits / hits[-1], hits / called


def _from_the_top(label: Floats, score: Floats) -> tuple[Floats, Floats]:
    positives, rows = Ranked.of(label, score).counts(np.ones(len(label)))
    return np.append(0.0, np.cumsum(positives[::-1])), np.append(0.0, np.cumsum(rows[::-1]))


def _per_weights(
    label: Floats, score: Floats, area: Callable[[Floats, Floats], float]
) -> Callable[[Floats], Floats]:
    ranked = Ranked.of(label, score)
    if not len(label):
        return lambda weights: np.full(len(weights), np.nan)
    return lambda weights: np.array([area(*ranked.counts(each)) for each in weights])
