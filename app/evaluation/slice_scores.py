"""A metric of every model within each value of a column, with intervals: what the report shows beside the gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.evaluation.bootstrap import Interval, draw
from app.evaluation.gates.verdict import Evaluation, slices
from app.spec.gates import AnyGate, CalibrationGate, FairnessGate, Gate

NUM_RESAMPLES = 200
MIN_ROWS = 100
MAX_VALUES = 20  # of a column that no gate names


@dataclass(frozen=True)
class SliceScore:
    """One slice: `by_model` holds value, low and high by who scored."""

    column: str
    name: str
    num_rows: int
    by_model: Mapping[str, Interval]


def slice_columns(gates: Sequence[AnyGate], categorical: Sequence[str], evaluation: Evaluation) -> list[str]:
    """Columns that gates name, then categories with few values."""
    named = [g.slice_column for g in gates if isinstance(g, Gate | CalibrationGate) and g.slice_column is not None]
    named += [g.column for g in gates if isinstance(g, FairnessGate)]
    few = [name for name in categorical if evaluation.rows[name].nunique() <= MAX_VALUES]
    return list(dict.fromkeys([*named, *few]))


def slice_scores(evaluation: Evaluation, columns: Sequence[str], metric: str) -> list[SliceScore]:
    """Every value with at least `MIN_ROWS` rows, columns in order, values sorted."""
    found = []
    for column in columns:
        for name, rows in slices(column, evaluation):
            num_rows = int(rows.sum())
            if num_rows < MIN_ROWS:
                continue
            scores = {model: score[rows] for model, score in evaluation.models.items()}
            drawn = draw(evaluation.label[rows], scores, [metric], NUM_RESAMPLES)
            by_model = {model: drawn.interval(model, metric) for model in scores}
            found.append(SliceScore(column, str(name), num_rows, by_model))
    return found
