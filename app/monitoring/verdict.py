"""Whether a window drifted, or its data is broken. Pure: profiles in, a verdict with every number out.

Significance alone flags trifles in large windows and effect size alone flags noise in small ones, so a feature drifts
only with both; significance is corrected over the features. Broken data (nulls, another type, a column gone) is told
apart: it must not retrain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from app.monitoring.drift import chi_square_p, hellinger, jensen_shannon, kolmogorov_smirnov, psi, wasserstein
from app.profiles import ColumnSummary, shared_bins
from app.spec.policies import DriftPolicy

SCORE = "score"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FeatureDrift:
    """One feature's numbers. `p`: corrected over features (Benjamini–Hochberg). `defect`: what is broken, if so."""

    feature: str
    psi: float
    jensen_shannon: float
    hellinger: float
    kolmogorov_smirnov: float
    wasserstein: float
    p: float
    null_rate: float
    reference_null_rate: float
    drifted: bool
    broken: bool
    defect: str = ""


@dataclass(frozen=True)
class DriftVerdict:
    """A window's verdict. `drifted` needs enough features or the score; `broken` blocks retraining."""

    num_rows: int
    drifted: bool
    broken: bool
    score_psi: float
    features: tuple[FeatureDrift, ...]
    reason: str

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def judge_window(
    reference: Mapping[str, ColumnSummary], current: Mapping[str, ColumnSummary], policy: DriftPolicy
) -> DriftVerdict:
    """Compares a window's profile with the reference."""
    num_rows = max((c.count for c in current.values()), default=0)
    features = _features(reference, current, policy)
    score_psi = next((f.psi for f in features if f.feature == SCORE), 0.0)
    inputs = [f for f in features if f.feature != SCORE]
    moved = sorted((f for f in inputs if f.drifted), key=lambda f: -f.psi)
    broken = [f for f in inputs if f.broken]
    share = len(moved) / len(inputs) if inputs else 0.0
    score_moved = any(f.drifted for f in features if f.feature == SCORE)
    drifted = num_rows >= policy.min_rows and (share >= policy.min_share or score_moved)
    return DriftVerdict(
        num_rows,
        drifted,
        bool(broken),
        score_psi,
        tuple(features),
        _reason(num_rows, policy, moved, broken, share, score_moved),
    )


def persistent(verdicts: Sequence[bool], persistence: int) -> bool:
    """Whether the newest `persistence` verdicts are all true."""
    return len(verdicts) >= persistence and all(verdicts[-persistence:])


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values in the given order.

    Source: Benjamini & Hochberg, "Controlling the False Discovery Rate" (1995).

    >>> [round(p, 3) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i], reverse=True)
    corrected, smallest = [1.0] * len(p_values), 1.0
    for rank, index in zip(range(len(p_values), 0, -1), order, strict=True):
        smallest = min(smallest, p_values[index] * len(p_values) / rank)
        corrected[index] = smallest
    return corrected


def _features(
    reference: Mapping[str, ColumnSummary], current: Mapping[str, ColumnSummary], policy: DriftPolicy
) -> list[FeatureDrift]:
    names = [name for name in reference if name in current]
    bins = [shared_bins(reference[name], current[name]) for name in names]
    p_values = benjamini_hochberg([chi_square_p(b.reference, b.current) for b in bins])
    found = [
        _feature(name, reference[name], current[name], b.reference, b.current, p, policy)
        for name, b, p in zip(names, bins, p_values, strict=True)
    ]
    return found + [_gone(name, reference[name]) for name in reference if name not in current]


def _feature(
    name: str, before: ColumnSummary, now: ColumnSummary, p_rows: Floats, q_rows: Floats, p: float, policy: DriftPolicy
) -> FeatureDrift:
    index = psi(p_rows, q_rows)
    enough = now.count >= policy.min_rows
    defect = _defect(before, now, policy) if enough else ""
    return FeatureDrift(
        feature=name,
        psi=index,
        jensen_shannon=jensen_shannon(p_rows, q_rows),
        hellinger=hellinger(p_rows, q_rows),
        kolmogorov_smirnov=kolmogorov_smirnov(p_rows, q_rows),
        wasserstein=wasserstein(p_rows, q_rows),
        p=p,
        null_rate=now.null_rate,
        reference_null_rate=before.null_rate,
        drifted=enough and not defect and p <= policy.false_discovery_rate and index >= policy.min_psi,
        broken=bool(defect),
        defect=defect,
    )


def _defect(before: ColumnSummary, now: ColumnSummary, policy: DriftPolicy) -> str:
    if before.is_typed and now.is_typed and before.is_numeric != now.is_numeric:
        was, became = ("a number", "text") if before.is_numeric else ("text", "a number")
        return f"{was} became {became}"
    if now.null_rate - before.null_rate > policy.max_null_rate_increase:
        return f"null {before.null_rate:.0%} → {now.null_rate:.0%}"
    return ""


def _gone(name: str, before: ColumnSummary) -> FeatureDrift:
    return FeatureDrift(name, 0, 0, 0, 0, 0, 1.0, 1.0, before.null_rate, False, True, "column is gone")


def _reason(
    num_rows: int,
    policy: DriftPolicy,
    moved: list[FeatureDrift],
    broken: list[FeatureDrift],
    share: float,
    score_moved: bool,
) -> str:
    if broken:
        return "broken data: " + ", ".join(f"{f.feature} {f.defect}" for f in broken[:3])
    if num_rows < policy.min_rows:
        return f"{num_rows} rows, {policy.min_rows} needed"
    top = ", ".join(f"{f.feature} {f.psi:.2f}" for f in moved[:3])
    text = f"{share:.0%} of features moved" + (f" ({top})" if top else "")
    return text + (", score moved" if score_moved else "")
