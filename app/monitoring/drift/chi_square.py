"""Chi-square test that two columns of rows per bin come from one distribution.

Source: Pearson (1900); bins expected to hold fewer than 5 rows are put together, the usual rule.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2_contingency

MIN_EXPECTED = 5.0


def chi_square_p(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> float:
    """The p-value; 1 when there is nothing to tell apart.

    >>> round(chi_square_p(np.array([50., 50.]), np.array([55., 45.])), 2)
    0.57
    """
    if not reference.sum() or not current.sum():
        return 1.0
    smaller = min(reference.sum(), current.sum()) / (reference.sum() + current.sum())
    rare = (reference + current) * smaller < MIN_EXPECTED
    table = np.vstack([reference, current])
    merged = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    merged = merged[:, merged.sum(axis=0) > 0]
    if merged.shape[1] < 2:
        return 1.0
    return float(chi2_contingency(merged).pvalue)
