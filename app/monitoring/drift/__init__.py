"""Measures of how far a distribution moved, one file each; all take rows per bin."""

from app.monitoring.drift.chi_square import chi_square_p
from app.monitoring.drift.jensen_shannon import jensen_shannon
from app.monitoring.drift.kolmogorov_smirnov import kolmogorov_smirnov
from app.monitoring.drift.psi import psi

__all__ = ["chi_square_p", "jensen_shannon", "kolmogorov_smirnov", "psi"]
