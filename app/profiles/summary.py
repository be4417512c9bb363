"""What drift needs of a profile: counts, and the distribution as shares of bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import whylogs_sketching as sketches
from whylogs.core.view.column_profile_view import ColumnProfileView

from app.profiles.whylogs_profile import read_profile

Floats = npt.NDArray[np.float64]


class ColumnSummary:
    """One column of a profile.

    `count`: rows. `nulls`: rows without a value (NaN included). `is_typed`: whether any row has a value.
    """

    def __init__(self, column: ColumnProfileView) -> None:
        counts = column.get_metric("counts")
        self.count: int = counts.n.value
        self.nulls: int = counts.null.value + counts.nan.value
        distribution = column.get_metric("distribution")
        self._sketch = None if distribution is None else distribution.kll.value
        types = column.get_metric("types")
        self.is_typed: bool = types is not None and any(
            getattr(types, kind).value for kind in ("integral", "fractional", "boolean", "string", "object")
        )
        frequent = column.get_metric("frequent_items")
        self._frequent = None if frequent is None else frequent.frequent_strings.value

    @property
    def is_numeric(self) -> bool:
        """Whether the column has a distribution rather than categories."""
        return self._sketch is not None

    @property
    def null_rate(self) -> float:
        """Share of rows without a value."""
        return self.nulls / self.count if self.count else 0.0

    def quantiles(self, ranks: Floats) -> Floats:
        """Values at these ranks; empty for a column without values."""
        if self._sketch is None or self._sketch.is_empty():
            return np.zeros(0)
        return np.array(self._sketch.get_quantiles(list(ranks)))

    def counts_between(self, edges: Floats) -> Floats:
        """Rows below the first edge, between edges, and from the last one on [len(edges) + 1]."""
        if self._sketch is None or self._sketch.is_empty():
            return np.zeros(len(edges) + 1)
        counts: Floats = np.array(self._sketch.get_pmf(list(edges))) * self._sketch.get_n()
        return counts

    def categories(self) -> dict[str, float]:
        """Estimated rows by category, most frequent first."""
        if self._frequent is None or self._frequent.is_empty():
            return {}
        items = self._frequent.get_frequent_items(sketches.frequent_items_error_type.NO_FALSE_NEGATIVES)
        return {str(item[0]): float(item[1]) for item in items}


@dataclass(frozen=True)
class Bins:
    """Rows of two columns over the same bins: values first, nulls last."""

    names: tuple[str, ...]
    reference: Floats
    current: Floats


def summary(profile: bytes) -> dict[str, ColumnSummary]:
    """Every column of a serialised profile."""
    return {name: ColumnSummary(column) for name, column in read_profile(profile).get_columns().items()}


def shared_bins(reference: ColumnSummary, current: ColumnSummary, num_bins: int = 10) -> Bins:
    """Bins from the reference: its quantiles for numbers, its frequent categories and "other" else; nulls apart."""
    if reference.is_numeric:
        edges = _edges(reference.quantiles(np.linspace(0, 1, num_bins + 1)))
        names = tuple(f"below {e:g}" for e in edges) + ("above",)
        a, b = reference.counts_between(edges), current.counts_between(edges)
    else:
        top = list(reference.categories().items())[: 2 * num_bins]
        names = (*(name for name, _ in top), "other")
        mine, theirs = dict(top), current.categories()
        a = np.array([*mine.values(), max(0.0, reference.count - reference.nulls - sum(mine.values()))])
        known = [theirs.get(name, 0.0) for name in mine]
        b = np.array([*known, max(0.0, current.count - current.nulls - sum(known))])
    return Bins((*names, "null"), np.append(a, reference.nulls), np.append(b, current.nulls))


def _edges(quantiles: Floats) -> Floats:
    """Edges between bins at the inner quantiles; a value that fills a whole bin or more gets one of its own.

    Without its own bin, a constant 0 that becomes a constant 5, or a rare 1 that becomes frequent, would not move.
    """
    if not len(quantiles):
        return quantiles
    values, times = np.unique(quantiles, return_counts=True)
    heavy = values[times > 1]
    return np.unique(np.concatenate([quantiles[1:-1], heavy, np.nextafter(heavy, np.inf)]))
