"""What only the order of scores decides, under row weights: ROC and PR curves and the areas under them.

Legend: B = rows, P = positives, N = negatives, G = distinct scores, R = sets of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranked:
    """Who stands where, found once: every set of weights then only adds up.

    `positives` [P] and `negatives` [N]: rows by rising score. For each positive, how many negatives score below it
    (`below` [P]) and at most as much (`up_to` [P]), and where the positives that score as much begin (`first` [P]).
    """

    positives: Positions
    negatives: Positions
    below: Positions
    up_to: Positions
    first: Positions

    @classmethod
    def of(cls, label: Floats, score: Floats) -> Ranked:
        """Sorts both classes and places one among the other."""
        order = np.argsort(score, kind="stable")
        is_positive = label[order] == 1
        positives, negatives = order[is_positive], order[~is_positive]
        own, other = score[positives], score[negatives]
        below, up_to = (np.searchsorted(other, own, side=side) for side in ("left", "right"))
        return cls(positives, negatives, below, up_to, np.searchsorted(own, own, side="left"))


def roc_auc(label: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """Chance that a positive scores above a negative, ties counting half; NaN with one class."""
    ranked = Ranked.of(label, score)

    def area(weights: Floats) -> float:
        ours = weights[ranked.positives]
        theirs = _running(weights[ranked.negatives])  # weight of the lowest 0, 1, … N negatives
        pairs = ours.sum() * theirs[-1]
        # Products are summed by hand: a dot product of BLAS takes threads, which wait for each other on busy CPUs.
        won = (ours * (theirs[ranked.below] + theirs[ranked.up_to])).sum() / 2
        return float(won / pairs) if pairs > 0 else float("nan")

    return lambda weights: np.array([area(each) for each in weights])


def pr_auc(label: Floats, score: Floats) -> Callable[[Floats], Floats]:
    """Average precision: precision summed over the steps in recall; NaN without positives."""
    ranked = Ranked.of(label, score)

    def area(weights: Floats) -> float:
        ours = weights[ranked.positives]
        hits, misses = _running(ours), _running(weights[ranked.negatives])
        if hits[-1] <= 0:
            return float("nan")
        caught = hits[-1] - hits[ranked.first]  # positives that score at least as much
        called = caught + misses[-1] - misses[ranked.below]
        precision = np.divide(caught, called, out=np.zeros_like(caught), where=called > 0)
        return float((ours * precision).sum() / hits[-1])

    return lambda weights: np.array([area(each) for each in weights])


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
    """Positives and rows that score at least as much as each distinct score, the highest first, after a zero."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    return _running(label[order])[np.append(0, last + 1)], np.append(0.0, last + 1.0)


def _running(values: Floats) -> Floats:
    """Sums of the first 0, 1, … values."""
    sums = np.empty(len(values) + 1)
    sums[0] = 0.0
    np.cumsum(values, out=sums[1:])
    return sums
