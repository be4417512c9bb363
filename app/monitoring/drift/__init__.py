"""Measures of how far a distribution moved, one file each; all take rows per bin.

`MEASURES` are effect sizes (0 is the same, larger is further); `chi_square_p` is the test that goes with them.
"""

from app.monitoring.drift.chi_square import chi_square_p
from app.monitoring.drift.hellinger import hellinger
from app.monitoring.drift.jensen_shannon import jensen_shannon
from app.monitoring.drift.kolmogorov_smirnov import kolmogorov_smirnov
from app.monitoring.drift.psi import psi
from app.monitoring.drift.wasserstein import wasserstein

MEASURES = {m.__name__: m for m in (psi, jensen_shannon, hellinger, kolmogorov_smirnov, wasserstein)}

__all__ = ["MEASURES", "chi_square_p", "hellinger", "jensen_shannon", "kolmogorov_smirnov", "psi", "wasserstein"]
