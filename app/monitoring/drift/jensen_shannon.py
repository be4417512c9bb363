"""Jensen–Shannon distance: root of the mean divergence (base 2) from the middle; 0 same, 1 disjoint.

Source: Endres & Schindelin, "A new metric for probability distributions" (2003). Guide: 0.1 is worth a look.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def jensen_shannon(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> float:
    """The distance of two columns of rows per bin; 0 when either is empty.

    >>> jensen_shannon(np.array([1., 0.]), np.array([0., 1.]))
    1.0
    """
    if not reference.sum() or not current.sum():
        return 0.0
    p, q = reference / reference.sum(), current / current.sum()
    middle = (p + q) / 2

    def divergence(a: npt.NDArray[np.float64]) -> float:
        some = a > 0
        return float((a[some] * np.log2(a[some] / middle[some])).sum())

    return float(np.sqrt(max(0.0, (divergence(p) + divergence(q)) / 2)))
