"""What a challenger must show before it may serve: gates on metrics, calibration, fairness, behaviour and serving.

Margins are the user's: a gate passes or fails on the number it names, so set a margin outside what chance does to a
sound model, on rows from before the ones it will judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.errors import ProjectError

GateKind = Literal[
    "at_least",
    "at_most",
    "not_worse_than_champion",
    "not_worse_than_baseline",
    "better_than_champion",
    "better_than_baseline",
]
FairnessMeasure = Literal["true_positive_rate", "false_positive_rate", "selection_rate", "calibration"]
GATED_METRICS: Mapping[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "pr_auc", "log_loss", "brier", "ece", "accuracy", "precision", "recall", "f1"),
    "regression": ("mse", "rmse", "mae", "r2", "mape", "wape"),
}


@dataclass(frozen=True)
class Gate:
    """A metric with a bound, on all rows or within each value of `slice_column`.

    `metric`: roc_auc, pr_auc, log_loss, brier, ece, accuracy, precision, recall, f1; mse, rmse, mae, r2, mape, wape.

    | kind | passes when | `threshold` is |
    |---|---|---|
    | at_least, at_most | the value keeps the bound | the bound |
    | not_worse_than_champion, …_baseline | the paired difference's low end is at least minus the margin | the margin |
    | better_than_champion, …_baseline | the paired difference's low end is above the gain wanted | the gain |

    All rows together must number `min_rows`; a slice with fewer is reported and not judged. Without a champion there is
    nothing to be compared with, which is not judged either.
    """

    name: str
    metric: str
    kind: GateKind
    threshold: float
    slice_column: str | None = None
    min_rows: int = 500


@dataclass(frozen=True)
class CalibrationGate:
    """Probabilities must come true as often as they say; binary tasks only.

    `max_ece`: expected calibration error over ten bins of equal size. `slope`: bounds of the calibration line's slope,
    below 1 where scores are too extreme, above 1 where too timid; `None` leaves it unjudged.
    """

    name: str
    max_ece: float = 0.05
    slope: tuple[float, float] | None = (0.7, 1.5)
    slice_column: str | None = None
    min_rows: int = 500


@dataclass(frozen=True)
class FairnessGate:
    """The largest difference between groups of `column` must not exceed `max_gap`.

    `true_positive_rate` (equal opportunity), `false_positive_rate` and `selection_rate` (demographic parity) are shares
    of scores from `called_from` on, among ones, among zeros, among all; `calibration` is the mean of score less label,
    for any task. A group with fewer than `min_rows` of those rows is named and left out.

    Source: Hardt, Price & Srebro, "Equality of Opportunity in Supervised Learning" (2016).
    """

    name: str
    column: str
    measure: FairnessMeasure = "true_positive_rate"
    max_gap: float = 0.1
    called_from: float = 0.5
    min_rows: int = 200


@dataclass(frozen=True)
class Invariance:
    """Setting input `column` to any of `values` must not move the score by more than `max_change`.

    Judged on `num_rows` of the frozen rows, drawn with a seed; a share of up to `max_share` of them may move further.

    Source: Ribeiro et al., "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (2020).
    """

    name: str
    column: str
    values: tuple[Any, ...]
    max_change: float
    max_share: float = 0.0
    num_rows: int = 500


@dataclass(frozen=True)
class Direction:
    """Raising input `column` by `by` must move the score the declared way, or not at all.

    `score`: which way it must not be left behind: `"rises"` refuses a score lower by more than `tolerance`, `"falls"` a
    higher one. Rows without a value are left out; a share of up to `max_share` of the rest may go the other way.
    """

    name: str
    column: str
    by: float
    score: Literal["rises", "falls"] = "rises"
    tolerance: float = 0.0
    max_share: float = 0.0
    num_rows: int = 500


@dataclass(frozen=True)
class GoldenRow:
    """One stored row: all inputs of the model, the score it must get, and how far off it may be."""

    inputs: Mapping[str, Any]
    score: float
    tolerance: float


@dataclass(frozen=True)
class GoldenRows:
    """Rows whose answer is known, such as plain cases and past incidents; each must be met."""

    name: str
    rows: tuple[GoldenRow, ...]


@dataclass(frozen=True)
class ServingGate:
    """The sealed folder must be fit to serve, tried in a fresh process.

    It loads, takes exactly the project's inputs, answers nulls with a finite score and a missing input with an error,
    gives the scores it was judged on, was exported within the exporter's tolerance of the trained model, answers a
    single row within `max_p99_ms` and takes at most `max_memory_bytes` more than the empty process. `None` leaves a
    budget unjudged.
    """

    name: str = "serving"
    max_p99_ms: float | None = 100.0
    max_memory_bytes: int | None = 2 * 2**30


AnyGate = Gate | CalibrationGate | FairnessGate | Invariance | Direction | GoldenRows | ServingGate


def check_gates(gates: Iterable[AnyGate], task: str, inputs: frozenset[str], columns: frozenset[str]) -> None:
    """Refuses gates that could never be judged.

    Args:
        gates: as declared.
        task: binary or regression.
        inputs: what the model is given.
        columns: what a frozen row has besides.

    Raises:
        ProjectError: a metric of another task, an unknown column, or a bound no number can meet.
    """
    for gate in gates:
        problem = _problem(gate, task, inputs, columns)
        if problem is not None:
            raise ProjectError(f"gate {gate.name!r}: {problem}", gate=gate.name)


def _problem(gate: AnyGate, task: str, inputs: frozenset[str], columns: frozenset[str]) -> str | None:
    known = inputs | columns
    if isinstance(gate, Gate) and gate.metric not in GATED_METRICS[task]:
        return f"metric {gate.metric!r} is none of a {task} task; expected one of {', '.join(GATED_METRICS[task])}."
    if isinstance(gate, Gate | CalibrationGate) and gate.slice_column is not None and gate.slice_column not in known:
        return _unknown(gate.slice_column, known)
    if isinstance(gate, CalibrationGate) and task != "binary":
        return "only the probabilities of a binary task can be calibrated; use FairnessGate(measure='calibration')."
    if isinstance(gate, FairnessGate):
        if gate.column not in known:
            return _unknown(gate.column, known)
        if task != "binary" and gate.measure != "calibration":
            return f"measure {gate.measure!r} needs a binary task; of a regression only 'calibration' can be judged."
    if isinstance(gate, Invariance | Direction):
        if gate.column not in inputs:
            return _unknown(gate.column, inputs)
        if not 0 <= gate.max_share < 1:
            return f"max_share is {gate.max_share}; expected a share from 0 to below 1."
    if isinstance(gate, Invariance) and not gate.values:
        return "values is empty; give the values that must not matter."
    if isinstance(gate, Direction) and not gate.by > 0:
        return f"by is {gate.by}; expected a step above 0 (score='falls' for a score that must fall)."
    if isinstance(gate, GoldenRows):
        for row in gate.rows:
            lacking = sorted(inputs - set(row.inputs))
            if lacking:
                return f"a golden row lacks {', '.join(lacking)}; it must hold every input of the model, None for null."
    return None


def _unknown(column: str, known: frozenset[str]) -> str:
    return f"there is no column {column!r}; there are: {', '.join(sorted(known))}."
