"""Judges a candidate by what was answered: metrics, limits, verdict. Pure.

Measurements are due at fixed moments of event time, `start + initial delay + i * interval`, and each sees only what
had been answered and known by then. So the verdict does not depend on how often or how fast anybody looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import polars as pl

from app.rollout.condition import parse_condition
from app.rollout.measures import measure
from app.rollout.mirror_measures import MIRROR_MEASURES, measure_mirrored
from app.spec.policies import AnalysisMetric


class Verdict(StrEnum):
    RUNNING = "Running"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    ERROR = "Error"
    INCONCLUSIVE = "Inconclusive"


# The worst metric decides; nobody has succeeded while one still runs.
_WORST_FIRST = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.RUNNING, Verdict.SUCCESSFUL)


@dataclass(frozen=True)
class Outcome:
    """One measurement as judged."""

    at: datetime
    verdict: Verdict
    value: float | None
    num_rows: int

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at.isoformat(), "verdict": self.verdict.value, "value": self.value, "num_rows": self.num_rows
        }


@dataclass(frozen=True)
class MetricResult:
    """A metric's verdict and the measurements that led to it."""

    name: str
    verdict: Verdict
    outcomes: tuple[Outcome, ...]

    @property
    def reason(self) -> str:
        """The verdict in one line, with the last number."""
        if not self.outcomes:
            return f"{self.name}: not measured yet"
        last = self.outcomes[-1]
        value = "no value" if last.value is None else f"{last.value:.4g}"
        return f"{self.name}: {self.verdict.value} ({value} on {last.num_rows} rows, {len(self.outcomes)} measurements)"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "verdict": self.verdict.value, "outcomes": [o.to_json() for o in self.outcomes]
        }


@dataclass(frozen=True)
class AnalysisResult:
    """The verdict on a step: the worst of its metrics. `experiment`: the report, with its `summary`, of an A/B test."""

    verdict: Verdict
    metrics: tuple[MetricResult, ...]
    experiment: dict[str, Any] | None = None
    summary: str | None = None

    @property
    def reason(self) -> str:
        return self.summary or "; ".join(metric.reason for metric in self.metrics) or "no metrics declared"

    def to_json(self) -> dict[str, Any]:
        found = {"verdict": self.verdict.value, "metrics": [metric.to_json() for metric in self.metrics]}
        return found if self.experiment is None else {**found, "experiment": self.experiment}


@dataclass(frozen=True)
class Seen:
    """What is known of a rollout: rows that were answered (see `measures`), rows that were mirrored
    (see `mirror_measures`)."""

    answered: pl.DataFrame
    mirrored: pl.DataFrame = field(default_factory=pl.DataFrame)


def analyse(
    metrics: Sequence[AnalysisMetric],
    rows: Seen,
    *,
    since: datetime,
    step_started_at: datetime,
    now: datetime,
) -> AnalysisResult:
    """Judges all metrics on the rows predicted in `[since, due moment]`.

    Args:
        metrics: none at all is inconclusive: a step that measured nothing has shown nothing.
        rows: with `prediction_timestamp`, and `label_available_timestamp` if labelled.
        since: event time of the last change of weight.
        step_started_at: event time at which the analysis step began.
        now: event time; measurements due later have not happened.
    """
    results = tuple(_judge_metric(metric, rows, since, step_started_at, now) for metric in metrics)
    found = {result.verdict for result in results} or {Verdict.INCONCLUSIVE}
    return AnalysisResult(next(v for v in _WORST_FIRST if v in found), results)


def judge_outcomes(metric: AnalysisMetric, verdicts: Sequence[Verdict]) -> Verdict:
    """A metric's verdict from its measurements so far.

    A limit trips when it is exceeded. Errors and inconclusive measurements don't count towards `count`.
    """
    errors_in_row = 0
    for verdict in reversed(verdicts):
        if verdict is not Verdict.ERROR:
            break
        errors_in_row += 1
    if verdicts.count(Verdict.FAILED) > metric.failure_limit:
        return Verdict.FAILED
    if errors_in_row > metric.consecutive_error_limit:
        return Verdict.ERROR
    if verdicts.count(Verdict.INCONCLUSIVE) > metric.inconclusive_limit:
        return Verdict.INCONCLUSIVE
    conclusive = verdicts.count(Verdict.SUCCESSFUL) + verdicts.count(Verdict.FAILED)
    return Verdict.SUCCESSFUL if conclusive >= metric.count else Verdict.RUNNING


def _judge_metric(
    metric: AnalysisMetric, rows: Seen, since: datetime, step_started_at: datetime, now: datetime
) -> MetricResult:
    outcomes: list[Outcome] = []
    verdict = Verdict.RUNNING
    judged = rows.mirrored if metric.measure in MIRROR_MEASURES else rows.answered
    due = step_started_at + timedelta(seconds=metric.initial_delay_s)
    while verdict is Verdict.RUNNING and due <= now:
        outcomes.append(_measure_once(metric, known_by(judged, since, due), due))
        verdict = judge_outcomes(metric, [o.verdict for o in outcomes])
        due += timedelta(seconds=metric.interval_s)
    return MetricResult(metric.name, verdict, tuple(outcomes))


def _measure_once(metric: AnalysisMetric, rows: pl.DataFrame, at: datetime) -> Outcome:
    if metric.measure in MIRROR_MEASURES:
        measured = measure_mirrored(metric.measure, rows)
    else:
        measured = measure(metric.measure, rows, metric.kpi)
    if measured.num_rows < metric.min_rows:
        return Outcome(at, Verdict.INCONCLUSIVE, measured.value, measured.num_rows)
    if measured.value is None or not abs(measured.value) < float("inf"):
        return Outcome(at, Verdict.ERROR, None, measured.num_rows)
    succeeded = parse_condition(metric.success_condition)(measured.value)
    failed = parse_condition(metric.failure_condition)(measured.value)
    verdict = Verdict.FAILED if failed else Verdict.SUCCESSFUL if succeeded else Verdict.INCONCLUSIVE
    return Outcome(at, verdict, measured.value, measured.num_rows)


def known_by(rows: pl.DataFrame, since: datetime, moment: datetime) -> pl.DataFrame:
    """Rows predicted in `[since, moment]`, with the labels that could be known at `moment`."""
    if rows.is_empty():
        return rows
    seen = rows.filter(pl.col("prediction_timestamp").is_between(since, moment))
    if "label_available_timestamp" not in seen.columns:
        return seen
    known = pl.col("label_available_timestamp") <= moment
    return seen.with_columns(pl.when(known).then(pl.col("label")).alias("label"))
