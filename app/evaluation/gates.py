"""Gates: may this challenger be rolled out? Pure; a verdict names every gate, its numbers and its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.bootstrap import paired_difference
from app.evaluation.metrics import METRICS, Floats
from app.spec.models import Gate


@dataclass(frozen=True)
class Evaluation:
    """Scores on the same frozen rows [B]; `champion` is absent for a first model."""

    rows: pd.DataFrame
    label: Floats
    challenger: Floats
    champion: Floats | None
    baseline: Floats | None


@dataclass(frozen=True)
class GateResult:
    """One judgement. `passed` is `None` when it could not be judged, and `reason` says why."""

    gate: str
    slice: str | None
    passed: bool | None
    value: float | None
    bound: float
    num_rows: int
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Every gate's result; passed when none failed."""

    passed: bool
    results: tuple[GateResult, ...]

    @property
    def reason(self) -> str:
        """One line: what failed, or that nothing did."""
        failed = [r.reason for r in self.results if r.passed is False]
        judged = sum(r.passed is not None for r in self.results)
        return "; ".join(failed) if failed else f"all {judged} judged gates passed"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"passed": self.passed, "reason": self.reason, "results": [asdict(r) for r in self.results]}


def judge(gates: Sequence[Gate], evaluation: Evaluation) -> Verdict:
    """Judges every gate, on all rows or on each slice."""
    results = tuple(result for gate in gates for result in _judge_gate(gate, evaluation))
    return Verdict(all(r.passed is not False for r in results), results)


def _judge_gate(gate: Gate, evaluation: Evaluation) -> Iterator[GateResult]:
    for name, rows in _slices(gate, evaluation):
        yield _judge_rows(gate, evaluation, name, rows)


def _slices(gate: Gate, evaluation: Evaluation) -> Iterator[tuple[str | None, np.ndarray]]:
    if gate.slice_column is None:
        yield None, np.ones(len(evaluation.label), dtype=bool)
        return
    column = evaluation.rows[gate.slice_column].astype("string").fillna("null")
    for value in sorted(column.unique()):
        yield f"{gate.slice_column}={value}", (column == value).to_numpy(dtype=bool)


def _judge_rows(gate: Gate, evaluation: Evaluation, name: str | None, rows: np.ndarray) -> GateResult:
    num_rows = int(rows.sum())
    where = f"{gate.name}{f' [{name}]' if name else ''}"

    def result(passed: bool | None, value: float | None, reason: str) -> GateResult:
        return GateResult(gate.name, name, passed, value, gate.threshold, num_rows, f"{where}: {reason}")

    if num_rows < gate.min_rows:
        # Too little evidence on all rows is a failure; a small slice is only reported.
        return result(None if name else False, None, f"{num_rows} rows, {gate.min_rows} needed")
    label, challenger = evaluation.label[rows], evaluation.challenger[rows]
    if gate.kind in ("at_least", "at_most"):
        value = METRICS[gate.metric](label, challenger)
        passed = value >= gate.threshold if gate.kind == "at_least" else value <= gate.threshold
        relation = "≥" if gate.kind == "at_least" else "≤"
        return result(passed, value, f"{gate.metric} {value:.4f}, {relation} {gate.threshold:g} required")
    other = evaluation.champion if gate.kind == "not_worse_than_champion" else evaluation.baseline
    if other is None:
        return result(None, None, "nothing to compare with yet")
    value, low, high = paired_difference(label, challenger, other[rows], gate.metric)
    rival = gate.kind.removeprefix("not_worse_than_")
    return result(
        low >= -gate.threshold,
        value,
        f"{gate.metric} better than {rival} by {value:+.4f} [{low:+.4f}, {high:+.4f}], low end ≥ {-gate.threshold:g} "
        "required",
    )
