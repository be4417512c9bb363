"""Kolmogorov–Smirnov distance over ordered bins: greatest gap between the two cumulative shares, 0 to 1.

Source: Massey, "The Kolmogorov-Smirnov Test for Goodness of Fit" (1951). An effect size here, not a test: its p-value
flags a shift of 0.02 standard deviations at 100,000 rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def kolmogorov_smirnov(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> float:
    """The distance of two columns of rows per ordered bin; 0 when either is empty.

    >>> kolmogorov_smirnov(np.array([1., 1.]), np.array([2., 0.]))
    0.5
    """
    if not reference.sum() or not current.sum():
        return 0.0
    gap = np.cumsum(reference / reference.sum()) - np.cumsum(current / current.sum())
    return float(np.abs(gap).max())
