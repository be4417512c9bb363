"""Mean and sum of squared deviations from it, merged without losing a small spread beside a large mean.

    d = mean_b - mean_a;  share = n_b / (n_a + n_b)
    mean = mean_a + d * share
    deviations = deviations_a + (deviations_b + d * (d * (n_a * share)))

Sums of squares would lose it: the squares of 1e9, 1e9 + 1 and 1e9 + 2 differ beyond the 53 bits of a float. Equal
values have a `d` of 0, so their deviations are exactly 0. A side without values, all 0, leaves the other one's bits as
they are. A single row is `b` with a count of 1, for which this is Welford's update. Every fold here goes from left to
right with these very operations, so rows, tiles and heads give the same bits however they are cut. Infinite values end
in deviations that are not finite, of which no spread is told.

Source: Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, COMPSTAT 1982;
Welford: Note on a method for calculating corrected sums of squares and products, Technometrics 4 (1962).

Legend: N = rows, W = tiles, Q = questions, K = columns with moments. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SEGMENTS_AT_ONCE = 8  # fewer are folded one by one, in plain floats, whose arithmetic is the same


@dataclass(frozen=True)
class Moments:
    """Of values by column, all of one shape: how many there are, their mean, the sum of its squared deviations."""

    count: np.ndarray
    mean: np.ndarray
    deviations: np.ndarray

    def weights(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`share` and `n_a * share` of merging these onto others, which makes `total` values."""
        share = self.count / np.maximum(total, 1.0)
        return share, (total - self.count) * share


def both(a: Moments, b: Moments) -> Moments:
    """Moments of the values of both, those of `a` before those of `b`."""
    count = a.count + b.count
    share, weight = b.weights(count)
    with np.errstate(invalid="ignore", over="ignore"):
        d = b.mean - a.mean
        return Moments(count, a.mean + d * share, a.deviations + (b.deviations + d * (d * weight)))


def folded_moments(moments: Moments) -> Moments:
    """The first axis of [W, Q, K] folded, W at least 1: [Q, K]."""
    total = np.add.accumulate(moments.count, axis=0)  # whole numbers: no order gives other bits
    share, weight = moments.weights(total)
    mean, deviations = moments.mean[0].copy(), moments.deviations[0].copy()
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(1, len(total)):
            d = moments.mean[i] - mean
            mean += d * share[i]
            deviations += moments.deviations[i] + d * (d * weight[i])
    return Moments(total[-1], mean, deviations)


def running_moments(moments: Moments, total: np.ndarray, starts: np.ndarray) -> Moments:
    """Moments of each row and those before it in its segment: [N, K].

    Args:
        moments: [N, K].
        total: the counts added up within each segment: [N, K].
        starts: position of the first row of each segment, increasing.
    """
    share, weight = moments.weights(total)
    mean, deviations = moments.mean.copy(), moments.deviations.copy()
    lengths = np.diff(np.append(starts, len(mean)))
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    step, ascending = 1, -lengths
    with np.errstate(invalid="ignore", over="ignore"):
        while True:
            active = int(np.searchsorted(ascending, -step, side="left"))  # segments longer than `step`
            if active < SEGMENTS_AT_ONCE:
                break
            at = starts[:active] + step
            d = mean[at] - mean[at - 1]
            mean[at] = mean[at - 1] + d * share[at]
            deviations[at] = deviations[at - 1] + (deviations[at] + d * (d * weight[at]))
            step += 1
    for start, length in zip(starts[:active].tolist(), lengths[:active].tolist(), strict=True):
        rest = slice(start + step - 1, start + length)
        for column in range(mean.shape[1]):
            lists = (part[rest, column].tolist() for part in (mean, deviations, share, weight))
            mean[rest, column], deviations[rest, column] = _one_by_one(*lists)
    return Moments(total, mean, deviations)


def _one_by_one(
    means: list[float], deviations: list[float], shares: list[float], weights: list[float]
) -> tuple[list[float], list[float]]:
    """The fold of one column of one segment; lists are changed in place."""
    mean, spread = means[0], deviations[0]
    for i in range(1, len(means)):
        d = means[i] - mean
        mean = mean + d * shares[i]
        spread = spread + (deviations[i] + d * (d * weights[i]))
        means[i], deviations[i] = mean, spread
    return means, deviations
