"""A metric against a bound, the champion or the baseline, on all rows or within each slice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.evaluation.bootstrap import paired_difference, with_intervals
from app.evaluation.gates.verdict import Evaluation, GateResult, named, slices, too_few
from app.evaluation.metrics import METRICS
from app.spec.gates import Gate


def judge_metric(gate: Gate, evaluation: Evaluation) -> Iterator[GateResult]:
    """One result, or one for each slice."""
    for name, rows in slices(gate.slice_column, evaluation):
        num_rows = int(rows.sum())
        if num_rows < gate.min_rows:
            yield too_few(gate.name, name, gate.threshold, num_rows, gate.min_rows)
        elif gate.kind in ("at_least", "at_most"):
            yield _against_bound(gate, evaluation, name, rows)
        else:
            yield _against_other(gate, evaluation, name, rows)


def _against_bound(gate: Gate, evaluation: Evaluation, name: str | None, rows: np.ndarray) -> GateResult:
    if name is None:
        value, low, high = evaluation.drawn.interval("challenger", gate.metric)
    else:
        label, score = evaluation.label[rows], evaluation.challenger[rows]
        value, low, high = with_intervals(label, score, [gate.metric])[gate.metric]
    passed = value >= gate.threshold if gate.kind == "at_least" else value <= gate.threshold
    relation = "≥" if gate.kind == "at_least" else "≤"
    reason = f"{METRICS[gate.metric].title} {value:.4f} [{low:.4f}, {high:.4f}], {relation} {gate.threshold:g} required"
    return _result(gate, name, rows, bool(passed), (value, low, high), reason)


def _against_other(gate: Gate, evaluation: Evaluation, name: str | None, rows: np.ndarray) -> GateResult:
    rival = gate.kind.rpartition("_")[2]
    other = evaluation.champion if rival == "champion" else evaluation.baseline
    if other is None:
        reason = f"{named(gate.name, name)}: nothing to compare with yet"
        return GateResult(gate.name, name, None, None, gate.threshold, int(rows.sum()), reason)
    if name is None:
        found = evaluation.drawn.difference("challenger", rival, gate.metric)
    else:
        found = paired_difference(evaluation.label[rows], evaluation.challenger[rows], other[rows], gate.metric)
    value, low, high = found
    improvement = gate.kind.startswith("better")
    required = gate.threshold if improvement else -gate.threshold
    passed = low > required if improvement else low >= required
    told = "no improvement: " if improvement and not passed else ""
    reason = (
        f"{told}{METRICS[gate.metric].title} against the {rival} {value:+.4f} [{low:+.4f}, {high:+.4f}] (+ is better), "
        f"low end {'>' if improvement else '≥'} {required:g} required"
    )
    return _result(gate, name, rows, bool(passed), found, reason)


def _result(
    gate: Gate, name: str | None, rows: np.ndarray, passed: bool, found: tuple[float, float, float], reason: str
) -> GateResult:
    value, low, high = found
    told, num_rows = f"{named(gate.name, name)}: {reason}", int(rows.sum())
    if np.isnan(value):  # a slice of one class tells nothing; all rows must tell
        told = f"{named(gate.name, name)}: {gate.metric} does not exist on these {num_rows} rows (one class only?)"
        return GateResult(gate.name, name, None if name else False, None, gate.threshold, num_rows, told)
    return GateResult(gate.name, name, passed, value, gate.threshold, num_rows, told, low, high)
