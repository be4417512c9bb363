"""Folds in time order: each validates on the stretch right after its training rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Fold:
    """Positions of rows to learn from and to validate on."""

    train: np.ndarray
    validate: np.ndarray


def time_ordered_folds(times: np.ndarray, num_folds: int) -> list[Fold]:
    """Cuts `num_folds + 1` stretches of about equal rows; fold i learns from all before its validation stretch.

    Cuts are moments, so rows of one moment are never split between both sides.

    >>> [(f.train.tolist(), f.validate.tolist()) for f in time_ordered_folds(np.array([1, 2, 2, 3, 4, 5]), 2)]
    [([0], [1, 2, 3]), ([0, 1, 2, 3], [4, 5])]
    """
    ordered = np.sort(times)
    cuts = [ordered[len(ordered) * i // (num_folds + 1)] for i in range(1, num_folds + 1)]
    folds = []
    for i, cut in enumerate(cuts):
        inside = times >= cut
        if i + 1 < len(cuts):
            inside &= times < cuts[i + 1]
        folds.append(Fold(np.flatnonzero(times < cut), np.flatnonzero(inside)))
    return folds
