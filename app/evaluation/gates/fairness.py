"""The largest difference of a rate between groups of a declared column. Legend: B = rows, G = groups, R = resamples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.evaluation.bootstrap import NUM_RESAMPLES, Interval, resamples
from app.evaluation.gates.verdict import Evaluation, GateResult, slices
from app.evaluation.metrics import Floats
from app.spec.gates import FairnessGate

RATES = {
    "true_positive_rate": "true positive rate",
    "false_positive_rate": "false positive rate",
    "selection_rate": "selection rate",
    "calibration": "score less label",
}


@dataclass(frozen=True)
class Group:
    """A group's rate with its 95% interval, over the rows the measure counts."""

    name: str
    num_rows: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Gap:
    """Groups by rising rate, those too small to be counted, and the difference of the extreme ones."""

    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    gap: Interval


def fairness_gap(gate: FairnessGate, evaluation: Evaluation, num_resamples: int = NUM_RESAMPLES) -> Gap:
    """The measure in each group and the gap, with bootstrap intervals; NaN with fewer than two groups.

    The largest difference among many groups is above zero by chance alone: draws of it are moved by their mean error.
    """
    counted, amount = _columns(gate, evaluation)
    members = [(str(name).partition("=")[2], rows.astype(np.float64)) for name, rows in slices(gate.column, evaluation)]
    sizes = {name: int((rows * counted).sum()) for name, rows in members}
    kept = [(name, rows) for name, rows in members if sizes[name] >= max(1, gate.min_rows)]
    left_out = tuple(name for name, _ in members if sizes[name] < max(1, gate.min_rows))
    if not kept:
        return Gap((), left_out, (np.nan, np.nan, np.nan))
    table = np.vstack([column for _, rows in kept for column in (rows * amount, rows * counted)])

    def rates(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            found = np.einsum("rb,kb->rk", weights, table)
            return np.asarray(found[:, ::2] / found[:, 1::2])  # [R, G]

    values = rates(np.ones((1, len(counted))))[0]
    drawn = np.concatenate([rates(weights) for weights in resamples(len(counted), num_resamples, 0)])
    low, high = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    groups = [
        Group(name, sizes[name], float(values[i]), float(low[i]), float(high[i])) for i, (name, _) in enumerate(kept)
    ]
    return Gap(tuple(sorted(groups, key=lambda g: g.rate)), left_out, _gap(values, drawn))


def judge_fairness(gate: FairnessGate, evaluation: Evaluation) -> Iterator[GateResult]:
    """One result that names the extreme groups."""
    found = fairness_gap(gate, evaluation)
    value, low, high = found.gap
    num_rows = sum(group.num_rows for group in found.groups)
    small = f"; too few rows to count: {', '.join(found.left_out)}" if found.left_out else ""
    if len(found.groups) < 2:
        reason = f"{gate.name}: fewer than two groups of {gate.column} have {gate.min_rows} rows{small}"
        yield GateResult(gate.name, None, None, None, gate.max_gap, num_rows, reason)
        return
    least, most = found.groups[0], found.groups[-1]
    reason = (
        f"{gate.name}: {RATES[gate.measure]} from {least.rate:.3f} ({gate.column}={least.name}) to {most.rate:.3f} "
        f"({gate.column}={most.name}), gap {value:.3f} [{low:.3f}, {high:.3f}], ≤ {gate.max_gap:g} required{small}"
    )
    yield GateResult(gate.name, None, bool(value <= gate.max_gap), value, gate.max_gap, num_rows, reason, low, high)


def _columns(gate: FairnessGate, evaluation: Evaluation) -> tuple[Floats, Floats]:
    """Which rows the measure counts, and what each adds to the numerator, both [B]."""
    label, score = evaluation.label, evaluation.challenger
    called = (score >= gate.called_from).astype(np.float64)
    if gate.measure == "true_positive_rate":
        return label, called * label
    if gate.measure == "false_positive_rate":
        return 1 - label, called * (1 - label)
    everyone = np.ones(len(label))
    return (everyone, called) if gate.measure == "selection_rate" else (everyone, score - label)


def _gap(values: Floats, drawn: Floats) -> Interval:
    if len(values) < 2:
        return (np.nan, np.nan, np.nan)
    value = float(values.max() - values.min())
    gaps = np.nanmax(drawn, axis=1) - np.nanmin(drawn, axis=1)
    low, high = np.nanquantile(np.maximum(gaps - (np.nanmean(gaps) - value), 0.0), [0.025, 0.975])
    return value, float(low), float(high)
