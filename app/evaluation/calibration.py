"""Do probabilities mean what they say? Slope, intercept and the reliability curve; B = rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.evaluation.metrics import TINY, ece_bins

Floats = npt.NDArray[np.float64]
NUM_NEWTON_STEPS = 25


@dataclass(frozen=True)
class Bin:
    """Rows of similar score: their mean score and the share of ones, with its 95% interval (Wilson)."""

    num_rows: int
    score: float
    observed: float
    low: float
    high: float


def calibration_line(label: Floats, score: Floats) -> tuple[float, float]:
    """`(slope, intercept)` of the logistic regression of the label on the score's log odds; ideal is `(1, 0)`.

    A slope below 1 says that scores are too extreme, above 1 too timid; an intercept above 0 that they are too low. NaN
    where it is not determined: one class, one score, or classes that a threshold separates.

    Source: Cox, "Two further applications of a model for binary regression", Biometrika 45 (1958).
    """
    log_odds = _log_odds(score)
    unknown = (float("nan"), float("nan"))
    if len(np.unique(label)) < 2 or len(np.unique(log_odds)) < 2:
        return unknown
    centre, scale = log_odds.mean(), log_odds.std()
    design = np.column_stack([(log_odds - centre) / scale, np.ones(len(label))])
    beta = np.array([scale, centre])  # the line of a calibrated score
    for _ in range(NUM_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(design @ beta, -500, 500)))
        hessian = (design * (chance * (1 - chance))[:, None]).T @ design
        if not np.isfinite(hessian).all() or np.linalg.cond(hessian) > 1e12:
            return unknown
        step = np.linalg.solve(hessian, design.T @ (label - chance))
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            return float(beta[0] / scale), float(beta[1] - beta[0] * centre / scale)
    return unknown


def reliability(label: Floats, score: Floats, num_bins: int = 10) -> list[Bin]:
    """The curve of a reliability diagram: bins of equal size by rising score."""
    bins = []
    for rows in ece_bins(score, num_bins):
        observed = float(label[rows].mean())
        bins.append(Bin(len(rows), float(score[rows].mean()), observed, *wilson(observed, len(rows))))
    return bins


def wilson(share: float, num_rows: float, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share seen in `num_rows` rows.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    >>> [round(x, 3) for x in wilson(0.5, 100)]
    [0.404, 0.596]
    """
    if num_rows <= 0:
        return float("nan"), float("nan")
    spread = z**2 / num_rows
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(share * (1 - share) / num_rows + spread / (4 * num_rows))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def _log_odds(score: Floats) -> Floats:
    p = np.clip(score, TINY, 1 - TINY)
    return np.log(p) - np.log1p(-p)
