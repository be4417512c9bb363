"""An A/B test: is the candidate better by a KPI? Decided by an always-valid interval. Pure.

Looks are due at fixed moments of event time, so that the outcome does not depend on how often a driver comes by. The
first look that decides ends the experiment.

A unit (by default the sticky key) counts once, with the mean of its rows, on the side it was *dealt* to: a row that the
champion had to answer for a failing candidate stays the candidate's, else failures would flatter it. Rows that a header
sent to one side were not dealt and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import polars as pl

from app.rollout.analysis import AnalysisResult, MetricResult, Outcome, Verdict, known_by
from app.rollout.confidence_sequence import Effect, difference
from app.rollout.kpis import kpi_values
from app.spec.policies import Experiment


class ExperimentDecision(StrEnum):
    RUNNING = "running"
    CANDIDATE_BETTER = "candidate better"
    CANDIDATE_WORSE = "candidate worse"
    UNDECIDED = "undecided"  # when its time was up


@dataclass(frozen=True)
class ExperimentReport:
    """What is known of the effect. `effect`: candidate minus champion in the KPI's own unit; exposure in units."""

    kpi: str
    decision: ExperimentDecision
    effect: Effect | None
    num_candidate: int
    num_champion: int
    at: datetime

    @property
    def reason(self) -> str:
        """In one line."""
        exposure = f"{self.num_candidate} units to the candidate, {self.num_champion} to the champion"
        if self.effect is None:
            return f"{self.kpi}: {self.decision} ({exposure})"
        e = self.effect
        return f"{self.kpi}: {self.decision}, effect {e.value:+.4g} [{e.low:+.4g}, {e.high:+.4g}] ({exposure})"

    def to_json(self) -> dict[str, Any]:
        effect = self.effect
        return {
            "kpi": self.kpi, "decision": self.decision.value, "at": self.at.isoformat(),
            "effect": None if effect is None else {"value": effect.value, "low": effect.low, "high": effect.high},
            "exposure": {"candidate": self.num_candidate, "champion": self.num_champion},
        }


VERDICTS = {
    ExperimentDecision.RUNNING: Verdict.RUNNING,
    ExperimentDecision.CANDIDATE_BETTER: Verdict.SUCCESSFUL,
    ExperimentDecision.CANDIDATE_WORSE: Verdict.FAILED,
}
UNDECIDED = {"abort": Verdict.FAILED, "promote": Verdict.SUCCESSFUL, "pause": Verdict.INCONCLUSIVE}


def run_experiment(
    experiment: Experiment, rows: pl.DataFrame, *, since: datetime, step_started_at: datetime, now: datetime
) -> AnalysisResult:
    """The verdict after every look that is due by `now`, with the report of the last.

    Args:
        rows: predictions, see `kpis`.
        since: event time of the last change of weight; what was answered before does not count.
        step_started_at: event time at which the step began.
    """
    reports: list[ExperimentReport] = []
    due = step_started_at + timedelta(seconds=experiment.interval_s)
    while due <= now:
        report = look(experiment, known_by(rows, since, due), step_started_at, due)
        reports.append(report)
        if report.decision is not ExperimentDecision.RUNNING:
            break
        due += timedelta(seconds=experiment.interval_s)
    if not reports:
        return AnalysisResult(Verdict.RUNNING, (MetricResult(experiment.kpi.name, Verdict.RUNNING, ()),))
    verdict = _verdict(experiment, reports[-1])
    outcomes = tuple(
        Outcome(
            r.at, _verdict(experiment, r), None if r.effect is None else r.effect.value,
            min(r.num_candidate, r.num_champion),
        )
        for r in reports
    )
    return AnalysisResult(
        verdict, (MetricResult(experiment.kpi.name, verdict, outcomes),), reports[-1].to_json(), reports[-1].reason
    )


def look(experiment: Experiment, rows: pl.DataFrame, step_started_at: datetime, at: datetime) -> ExperimentReport:
    """One look at the rows known by `at`."""
    candidate, champion = _units(experiment, rows)
    effect = None
    if min(candidate.len(), champion.len()) >= experiment.min_units:
        effect = difference(candidate.to_numpy(), champion.to_numpy(), experiment.alpha, experiment.tightest_at)
    decision = decide_experiment(experiment, effect, at - step_started_at)
    return ExperimentReport(experiment.kpi.name, decision, effect, candidate.len(), champion.len(), at)


def decide_experiment(experiment: Experiment, effect: Effect | None, elapsed: timedelta) -> ExperimentDecision:
    """Better once the whole interval lies above `-margin`, worse once it lies below it, on the KPI's good side.

    Nothing is decided before `min_duration`, so that a whole week, say, is seen; after `max_duration` nothing runs on.
    """
    if effect is not None and elapsed >= experiment.min_duration:
        low, high = (effect.low, effect.high) if experiment.kpi.better == "higher" else (-effect.high, -effect.low)
        if low > -experiment.margin:
            return ExperimentDecision.CANDIDATE_BETTER
        if high < -experiment.margin:
            return ExperimentDecision.CANDIDATE_WORSE
    return ExperimentDecision.UNDECIDED if elapsed >= experiment.max_duration else ExperimentDecision.RUNNING


def _verdict(experiment: Experiment, report: ExperimentReport) -> Verdict:
    if report.decision is ExperimentDecision.UNDECIDED:
        return UNDECIDED[experiment.undecided]
    return VERDICTS[report.decision]


def _units(experiment: Experiment, rows: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    dealt = rows.filter(~pl.col("overridden").fill_null(False)) if "overridden" in rows.columns else rows
    valued = dealt.with_columns(kpi_values(experiment.kpi, dealt).alias("value")).drop_nulls("value")
    units = valued.group_by(experiment.unit, "assigned", maintain_order=True).agg(pl.col("value").mean())
    of = {side: units.filter(pl.col("assigned") == side)["value"] for side in ("candidate", "champion")}
    return of["candidate"], of["champion"]
