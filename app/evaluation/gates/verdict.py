"""What was measured, what each gate made of it, and what follows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from app.evaluation.bootstrap import Draws, draw
from app.evaluation.metrics import Floats, metrics_of
from app.spec.models import Task


@dataclass(frozen=True)
class Behaviour:
    """How far the scores of tried rows went beyond what a behavioural test wants, each at least 0.

    `worst`: the case that went furthest, in words without keys. `problem`: why it could not be tried, else `None`.
    """

    excess: Floats
    worst: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class ServingMeasure:
    """What a fresh process found of a sealed folder.

    `problem`: why it does not load, else `None`. `schema_problems`: what it does with rows and must not.
    `score_difference`: largest difference of its scores from those judged. `export_difference`: largest difference of
    the exported from the trained model, `None` when the exporter left no note. Times are of single rows.
    """

    problem: str | None = None
    schema_problems: tuple[str, ...] = ()
    score_difference: float = 0.0
    export_difference: float | None = None
    load_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    memory_bytes: int = 0
    num_rows: int = 0


@dataclass(frozen=True)
class Evaluation:
    """Scores on the same frozen rows [B], and what was tried beside; `champion` is absent for a first model."""


    rows: pd.DataFrame
    label: Floats
    challenger: Floats
    champion: Floats | None
    baseline: Floats | None
    behaviour: Mapping[str, Behaviour] = field(default_factory=dict)  # by the gate's name
    serving: ServingMeasure | None = None
    task: Task = "binary"

    @property
    def models(self) -> dict[str, Floats]:
        """The scores there are, by who gave them."""
        given = {"challenger": self.challenger, "champion": self.champion, "baseline": self.baseline}
        return {name: scores for name, scores in given.items() if scores is not None}

    @cached_property
    def drawn(self) -> Draws:
        """Every metric of every model on all rows and their resamples, drawn once for all who ask."""
        return draw(self.label, self.models, metrics_of(self.task))


@dataclass(frozen=True)
class GateResult:
    """One judgement. `passed` is `None` when it could not be judged, and `reason` says why.

    `low` and `high`: the value's 95% interval where it has one.
    """

    gate: str
    slice: str | None
    passed: bool | None
    value: float | None
    bound: float
    num_rows: int
    reason: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Every gate's result; passed when none failed."""

    passed: bool
    results: tuple[GateResult, ...]
    against_champion: bool = False

    @property
    def reason(self) -> str:
        """One line: what failed, or that nothing did."""
        failed = [r.reason for r in self.results if r.passed is False]
        judged = sum(r.passed is not None for r in self.results)
        if not failed:
            return f"all {judged} judged gates passed"
        return ("the champion stays: " if self.against_champion else "") + "; ".join(failed)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"passed": self.passed, "reason": self.reason, "results": [asdict(r) for r in self.results]}


def slices(column: str | None, evaluation: Evaluation) -> Iterator[tuple[str | None, np.ndarray]]:
    """Each value of a column as `(name, rows)`, rows being a mask [B]; without a column all rows under `None`."""
    if column is None:
        yield None, np.ones(len(evaluation.label), dtype=bool)
        return
    values = evaluation.rows[column].astype("string").fillna("null")
    for value in sorted(values.unique(), key=_numbers_first):
        yield f"{column}={value}", (values == value).to_numpy(dtype=bool)


def _numbers_first(value: str) -> tuple[float, str]:
    """Order of a column's values: numbers by size, then words.

    >>> sorted(["10", "b", "9", "a"], key=_numbers_first)
    ['9', '10', 'a', 'b']
    """
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def named(gate: str, name: str | None) -> str:
    """A gate, and the slice it is about."""
    return f"{gate} [{name}]" if name else gate


def too_few(gate: str, name: str | None, bound: float, num_rows: int, needed: int) -> GateResult:
    """Too little evidence on all rows is a failure; a small slice is only reported."""
    reason = f"{named(gate, name)}: {num_rows} rows, {needed} needed"
    return GateResult(gate, name, None if name else False, None, bound, num_rows, reason)
