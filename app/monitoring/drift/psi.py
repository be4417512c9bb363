"""Population stability index: sum of (q - p) ln(q / p) over bins.

Guide: below 0.1 none, 0.1 to 0.2 some, above 0.2 a shift worth acting on.
Source: Siddiqi, "Credit Risk Scorecards" (2006); Yurdakul, "Statistical Properties of PSI" (2018).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SMOOTHING = 0.5  # rows added to each bin, so that an empty bin is not infinitely far


def shares(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Smoothed share of rows per bin."""
    smoothed = counts + SMOOTHING
    total: np.float64 = smoothed.sum()
    return smoothed / total


def psi(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> float:
    """The index of two columns of rows per bin; 0 when either is empty.

    >>> psi(np.array([50., 50.]), np.array([50., 50.]))
    0.0
    >>> round(psi(np.array([500., 500.]), np.array([800., 200.])), 2)
    0.41
    """
    if not reference.sum() or not current.sum():
        return 0.0
    p, q = shares(reference), shares(current)
    return float(((q - p) * np.log(q / p)).sum())
