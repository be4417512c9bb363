"""Gates: may this challenger be rolled out? Pure; a verdict names every gate, its numbers and its reason.

One file per kind. What needs a model to be run is measured before (`app.evaluation.behaviour`, `.serving_probe`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from app.evaluation.gates.behaviour import judge_behaviour
from app.evaluation.gates.calibration import judge_calibration
from app.evaluation.gates.fairness import judge_fairness
from app.evaluation.gates.metric import judge_metric
from app.evaluation.gates.serving import judge_serving
from app.evaluation.gates.verdict import Behaviour, Evaluation, GateResult, ServingMeasure, Verdict
from app.spec.gates import (
    AnyGate,
    CalibrationGate,
    Direction,
    FairnessGate,
    Gate,
    GoldenRows,
    Invariance,
    ServingGate,
)

JUDGES: Mapping[type, Callable[[Any, Evaluation], Iterator[GateResult]]] = {
    Gate: judge_metric,
    CalibrationGate: judge_calibration,
    FairnessGate: judge_fairness,
    Invariance: judge_behaviour,
    Direction: judge_behaviour,
    GoldenRows: judge_behaviour,
    ServingGate: judge_serving,
}


def judge(gates: Sequence[AnyGate], evaluation: Evaluation) -> Verdict:
    """Judges every gate; the verdict passes when none failed."""
    results = tuple(result for gate in gates for result in JUDGES[type(gate)](gate, evaluation))
    return Verdict(all(r.passed is not False for r in results), results, evaluation.champion is not None)


__all__ = ["Behaviour", "Evaluation", "GateResult", "JUDGES", "ServingMeasure", "Verdict", "judge"]
