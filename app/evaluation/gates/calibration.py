"""Do probabilities come true as often as they say?"""

from __future__ import annotations

from collections.abc import Iterator

from app.evaluation.bootstrap import with_intervals
from app.evaluation.calibration import calibration_line
from app.evaluation.gates.verdict import Evaluation, GateResult, named, slices, too_few
from app.spec.gates import CalibrationGate


def judge_calibration(gate: CalibrationGate, evaluation: Evaluation) -> Iterator[GateResult]:
    """One result, or one for each slice: the error and the slope must both keep their bounds."""
    for name, rows in slices(gate.slice_column, evaluation):
        num_rows = int(rows.sum())
        if num_rows < gate.min_rows:
            yield too_few(gate.name, name, gate.max_ece, num_rows, gate.min_rows)
            continue
        label, score = evaluation.label[rows], evaluation.challenger[rows]
        value, low, high = (
            with_intervals(label, score, ["ece"])["ece"] if name else evaluation.drawn.interval("challenger", "ece")
        )
        passed = bool(value <= gate.max_ece)
        reason = f"{named(gate.name, name)}: ECE {value:.4f} [{low:.4f}, {high:.4f}], ≤ {gate.max_ece:g} required"
        if gate.slope is not None:
            slope, intercept = calibration_line(label, score)
            least, most = gate.slope
            passed = passed and least <= slope <= most
            reason += f"; slope {slope:.2f}, {least:g} to {most:g} required (intercept {intercept:+.2f})"
        yield GateResult(gate.name, name, passed, value, gate.max_ece, num_rows, reason, low, high)
