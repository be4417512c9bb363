"""The difference of two means with an interval that stays valid however often anybody looks. Pure.

An interval of fixed size is wrong sooner or later when one looks after every row and stops at the first good news. A
confidence sequence is right at all looks at once with probability `1 - alpha`, so stopping early costs no error.

Source: Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", Annals of Statistics 52(6), 2024 (arXiv 2103.06476v9): theorem 2.2, tuned to be tightest at a number of
units, on the influence values of a difference in means of a randomised experiment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MIN_UNITS = 2  # of each side: a variance needs two


@dataclass(frozen=True)
class Effect:
    """Mean of the candidate minus mean of the champion, `[low, high]` valid at every look."""

    value: float
    low: float
    high: float


def difference(candidate: Floats, champion: Floats, alpha: float, tightest_at: int) -> Effect | None:
    """The effect after `n = len(candidate) + len(champion)` units; `None` where a side has fewer than two.

    Args:
        candidate: one value for each unit that was dealt to the candidate.
        champion: likewise.
        alpha: chance that the sequence ever misses the truth, over all looks.
        tightest_at: number of units at which the interval is tightest; fixed before the first look.
    """
    num_candidate, num_champion = len(candidate), len(champion)
    if min(num_candidate, num_champion) < MIN_UNITS:
        return None
    num_units = num_candidate + num_champion
    share = num_candidate / num_units
    variance = float(np.var(candidate)) / share + float(np.var(champion)) / (1.0 - share)
    half_width = math.sqrt(variance) * _boundary(num_units, alpha, tightest_at)
    value = float(np.mean(candidate)) - float(np.mean(champion))
    return Effect(value, value - half_width, value + half_width)


def _boundary(num_units: int, alpha: float, tightest_at: int) -> float:
    """Half width for a standard deviation of 1 after `num_units`.

    >>> round(_boundary(1_000, 0.05, 1_000) * 1_000**0.5, 2)  # 1.96 for one look at a size fixed in advance
    3.04
    """
    log_alpha = -2.0 * math.log(alpha)
    rho_squared = (log_alpha + math.log(log_alpha) + 1.0) / tightest_at
    intrinsic = num_units * rho_squared + 1.0
    return math.sqrt(2.0 * intrinsic / (num_units**2 * rho_squared) * math.log(math.sqrt(intrinsic) / alpha))
