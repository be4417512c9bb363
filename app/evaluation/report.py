"""The validation report of one candidate: one self-contained HTML page. Pure but for the model that is asked again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment

from app.evaluation import report_plots as plots
from app.evaluation.calibration import calibration_line
from app.evaluation.gates.fairness import RATES, Gap, fairness_gap
from app.evaluation.importance import JUDGED_BY, Importance
from app.evaluation.metrics import METRICS, metrics_of
from app.evaluation.slice_scores import slice_columns, slice_scores
from app.evaluation.validate import Validation
from app.foundation.templates import template_environment
from app.spec.gates import AnyGate, FairnessGate

TEMPLATE = "validation.html.j2"
WHO = ("challenger", "champion", "baseline")


@dataclass(frozen=True)
class ValidationReport:
    """What the page tells beside the validation itself.

    `sweep`: the sweep's output, `trials` best first. `record`: of the run; `stretch`: of the frozen rows, as text.
    """

    project: str
    purpose: str
    model: str
    gates: Sequence[AnyGate]
    categorical: Sequence[str]
    validation: Validation
    importance: Sequence[Importance]
    epochs: Sequence[Mapping[str, float]] = ()
    sweep: Mapping[str, Any] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    stretch: str = ""
    written_at: datetime | None = None  # None: now


def render_validation(report: ValidationReport) -> str:
    """The page as text; it needs no other file and no network."""
    evaluation, verdict = report.validation.evaluation, report.validation.verdict
    task, label, models = evaluation.task, evaluation.label, evaluation.models
    gaps = _gaps(report)
    scored_by = JUDGED_BY[task]
    slices = slice_scores(evaluation, slice_columns(report.gates, report.categorical, evaluation), scored_by)
    title = METRICS[scored_by].title
    curves = len(set(label.tolist())) == 2
    return _environment().get_template(TEMPLATE).render(
        report=report,
        verdict=verdict,
        task=task,
        num_rows=len(label),
        label_mean=float(label.mean()) if len(label) else float("nan"),
        who=[name for name in WHO if name in models],
        metrics=_metric_rows(report.validation),
        lines={name: calibration_line(label, score) for name, score in models.items()} if task == "binary" else {},
        curves_svg=plots.curves_plot(label, models) if task == "binary" and curves else "",
        calibration_svg=plots.calibration_plot(label, models) if task == "binary" and len(label) else "",
        values_svg=plots.values_plot(label, models) if task == "regression" and len(label) else "",
        slices_svg=plots.slices_plot(slices, f"{title} (lower is better), 95% interval") if slices else "",
        fairness_svg=plots.fairness_plot(gaps) if gaps else "",
        learning_svg=plots.learning_plot(report.epochs) if any("loss" in e for e in report.epochs) else "",
        importance_svg=_importance(report, title),
        serving=evaluation.serving,
        trials=_trials(report.sweep),
        influence=report.sweep.get("importance", {}),
        written_at=report.written_at or datetime.now(UTC),
    )


def _metric_rows(validation: Validation) -> list[dict[str, Any]]:
    """Per metric everyone's estimate, and how much better the challenger is than each other model."""
    evaluation, rows = validation.evaluation, []
    others = [name for name in WHO[1:] if name in evaluation.models]
    for name in metrics_of(evaluation.task):
        differences = {other: evaluation.drawn.difference("challenger", other, name) for other in others}
        estimates = {model: evaluation.drawn.interval(model, name) for model in evaluation.models}
        rows.append({"title": METRICS[name].title, "higher": METRICS[name].higher_is_better, "estimates": estimates,
                     "differences": differences})  # fmt: skip
    return rows


def _gaps(report: ValidationReport) -> dict[str, Gap]:
    """Each fairness gate's groups by the title of its plot."""
    found = {}
    for gate in report.gates:
        if isinstance(gate, FairnessGate):
            gap = fairness_gap(gate, report.validation.evaluation)
            if gap.groups:
                found[f"{gate.name}: {RATES[gate.measure]}"] = gap
    return found


def _importance(report: ValidationReport, title: str) -> str:
    told = f"How much worse {title} gets when an input is shuffled, 95% interval"
    return plots.importance_plot(report.importance, told) if report.importance else ""


def _trials(sweep: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [trial for trial in sweep.get("trials", ()) if "mean" in trial]


def _environment() -> Environment:
    return template_environment(Path(__file__).parent, estimate=_estimate, gain=_gain, to_json=_pretty_json)


def _estimate(found: tuple[float, float, float] | None) -> str:
    """Value and interval.

    >>> _estimate((0.71234, 0.7, 0.72)), _estimate((float("nan"), 0.0, 0.0)), _estimate((1234.5, 1200.0, 1300.0))
    ('0.7123 [0.7000, 0.7200]', '–', '1,234.5 [1,200.0, 1,300.0]')
    """
    if found is None or found[0] != found[0]:
        return "–"
    value, low, high = (f"{x:,.1f}" if abs(found[0]) >= 1_000 else f"{x:.4f}" for x in found)
    return f"{value} [{low}, {high}]"


def _gain(found: tuple[float, float, float]) -> str:
    if found[0] != found[0]:
        return "–"
    return "{:+.4f} [{:+.4f}, {:+.4f}]".format(*found)


def _pretty_json(value: object) -> str:
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)
