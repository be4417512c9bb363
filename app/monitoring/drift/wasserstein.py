"""Wasserstein distance over ordered bins, in steps from bin to bin as a share of all steps; 0 same, 1 end to end.

The bins are the reference's quantiles, so a step is a tenth of the reference's rows; units and outliers don't matter.
Source: Rubner, Tomasi & Guibas, "The Earth Mover's Distance" (2000), for bins on a line.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def wasserstein(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> float:
    """The distance of two columns of rows per ordered bin; 0 when either is empty.

    >>> wasserstein(np.array([1., 0., 0.]), np.array([0., 1., 0.]))
    0.5
    """
    if not reference.sum() or not current.sum() or len(reference) < 2:
        return 0.0
    gap = np.cumsum(reference / reference.sum()) - np.cumsum(current / current.sum())
    return float(np.abs(gap[:-1]).mean())
