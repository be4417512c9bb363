"""Hellinger distance: how far the square roots of the shares lie apart; 0 same, 1 disjoint.

Source: Hellinger, "Neue Begründung der Theorie quadratischer Formen" (1909). Guide: 0.1 is worth a look.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def hellinger(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> float:
    """The distance of two columns of rows per bin; 0 when either is empty.

    >>> hellinger(np.array([1., 0.]), np.array([0., 1.]))
    1.0
    """
    if not reference.sum() or not current.sum():
        return 0.0
    gap = np.sqrt(reference / reference.sum()) - np.sqrt(current / current.sum())
    return float(np.sqrt((gap**2).sum() / 2))
