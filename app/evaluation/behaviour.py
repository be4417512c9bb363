"""Tries what behavioural gates declare: changes inputs of frozen rows, asks the model again, notes how far it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from app.errors import MillraceError
from app.evaluation.gates.verdict import Behaviour
from app.evaluation.metrics import Floats
from app.spec.gates import AnyGate, Direction, GoldenRows, Invariance

Predict = Callable[[pd.DataFrame], Floats]
ROUNDING = 1e-9  # two equal scores may differ by this where they are added up in another order


def try_behaviour(gates: Sequence[AnyGate], predict: Predict, rows: pd.DataFrame) -> dict[str, Behaviour]:
    """What became of each behavioural gate, by its name; other gates need no trying.

    A model that cannot answer a tried row is the finding, not an error: the gate then fails with the reason.
    """
    tried = {}
    for gate in gates:
        if isinstance(gate, Invariance | Direction | GoldenRows):
            try:
                tried[gate.name] = _try(gate, predict, rows)
            except MillraceError as error:
                tried[gate.name] = Behaviour(np.zeros(0), problem=error.message)
    return tried


def _try(gate: Invariance | Direction | GoldenRows, predict: Predict, rows: pd.DataFrame) -> Behaviour:
    if isinstance(gate, GoldenRows):
        return _golden(gate, predict)
    sample = rows.sample(min(gate.num_rows, len(rows)), random_state=0) if len(rows) else rows
    return _invariance(gate, predict, sample) if isinstance(gate, Invariance) else _direction(gate, predict, sample)


def _invariance(gate: Invariance, predict: Predict, sample: pd.DataFrame) -> Behaviour:
    before = predict(sample)
    after = np.array([predict(_with(sample, gate.column, value)) for value in gate.values])  # [values, B]
    moved = np.abs(after - before)
    excess = np.maximum(moved.max(axis=0, initial=0.0) - gate.max_change - ROUNDING, 0.0)
    if not excess.any():
        return Behaviour(excess)
    value, row = np.unravel_index(int(moved.argmax()), moved.shape)
    told = f"score {before[row]:.4f} became {after[value, row]:.4f} with {gate.column}={gate.values[int(value)]!r}"
    return Behaviour(excess, told)


def _direction(gate: Direction, predict: Predict, sample: pd.DataFrame) -> Behaviour:
    values = pd.to_numeric(sample[gate.column], errors="coerce").astype("float64")
    known = sample[values.notna()]
    if known.empty:
        return Behaviour(np.zeros(0), problem=f"no row has a number in {gate.column}")
    values = values[values.notna()]
    before, after = predict(known), predict(known.assign(**{gate.column: values + gate.by}))
    wrong = before - after if gate.score == "rises" else after - before
    excess = np.maximum(wrong - gate.tolerance - ROUNDING, 0.0)
    row = int(wrong.argmax())
    return Behaviour(excess, f"score {before[row]:.4f} became {after[row]:.4f}")


def _golden(gate: GoldenRows, predict: Predict) -> Behaviour:
    scores = predict(pd.DataFrame([dict(row.inputs) for row in gate.rows])) if gate.rows else np.zeros(0)
    wanted = np.array([row.score for row in gate.rows])
    off = np.abs(scores - wanted) - np.array([row.tolerance for row in gate.rows])
    if not len(off):
        return Behaviour(off, problem="no rows are declared")
    worst = int(off.argmax())
    told = f"row {worst + 1} scored {scores[worst]:.4f}, {wanted[worst]:g} ± {gate.rows[worst].tolerance:g} wanted"
    return Behaviour(np.maximum(off - ROUNDING, 0.0), told)


def _with(sample: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """The rows with one input replaced, in the type it had where the value fits it."""
    if value is None:
        return sample.assign(**{column: sample[column].mask(np.ones(len(sample), dtype=bool))})
    replaced = pd.Series([value] * len(sample), index=sample.index)
    if value in set(sample[column].dropna().unique()):
        replaced = replaced.astype(sample[column].dtype)
    return sample.assign(**{column: replaced})
