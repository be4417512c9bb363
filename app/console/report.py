"""What a run did, as a table for the terminal and one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from rich.table import Table

from app.console import charts

Output = dict[str, Any]
TEMPLATE = Path(__file__).parent / "report.html.jinja"
RANKED_BY = {"binary": ("roc_auc", "AUC"), "regression": ("mae", "MAE")}


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows, as the steps of the run left it."""

    project: str
    description: str
    run_id: str
    task: str
    ingest: Output
    sweep: Output
    train: Output
    windows: list[Output]
    assessment: Output
    decisions: list[Output]
    step_durations_s: list[tuple[str, float]]
    provenance: Output
    places: dict[str, str]  # where else to look: what, and how


def write_report(path: Path, data: ReportData) -> None:
    """Writes the page, whole or not at all."""
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(TEMPLATE.read_text())
    metric, name = RANKED_BY[data.task]
    second = ("log_loss", "Log loss") if data.task == "binary" else ("mse", "Squared error")
    scored = [w for w in data.assessment["windows"] if "loop" in w]
    plots = [
        charts.quality(scored, metric, f"{name} by window (95% bootstrap)"),
        charts.quality(scored, *second),
        charts.versions(data.windows),
        charts.drift(data.windows),
        charts.durations(data.step_durations_s),
    ]
    page = template.render(data=data, rows=table_rows(data), headers=headers(data), plots=plots)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(page)
    scratch.replace(path)


def headers(data: ReportData) -> list[str]:
    """Column titles of the final table."""
    name = RANKED_BY[data.task][1]
    extra = ["log loss", "calibration"] if data.task == "binary" else ["R²"]
    pairs = [f"{title} {who}" for title in (name, *extra) for who in ("frozen", "loop")]
    return ["window", "rows", "drift", "answered by", *pairs, "what happened"]


def table_rows(data: ReportData) -> list[list[str]]:
    """Rows of the final table: windows, months, whole."""
    by_name = {w["name"]: w for w in data.assessment["windows"]}
    rows = []
    for window in data.windows:
        scored = by_name.get(window["start"][:10], {"rows": 0})
        rows.append([window["start"][:10], *_cells(data, scored, _verdict(window)), _events(window)])
    for month in data.assessment["months"]:
        rows.append([month["name"], *_cells(data, month, ""), _gain(month)])
    whole = data.assessment["whole"]
    rows.append(["whole", *_cells(data, whole, ""), _gain(whole)])
    return rows


def render_table(data: ReportData) -> Table:
    """The final table for a terminal."""
    table = Table(title=f"{data.project}: did the loop pay?", title_justify="left", show_lines=False)
    for header in headers(data):
        table.add_column(header, overflow="fold")
    months_from = len(data.windows)
    for number, row in enumerate(table_rows(data)):
        table.add_row(*row, end_section=number == months_from - 1, style="bold" if row[0] == "whole" else "")
    return table


def _cells(data: ReportData, scored: Output, verdict: str) -> list[str]:
    metrics = (RANKED_BY[data.task][0], "log_loss", "ece") if data.task == "binary" else ("mae", "r2")
    pairs = [_number(scored.get(who, {}).get(metric)) for metric in metrics for who in ("frozen", "loop")]
    answered = " ".join(f"v{v}:{_share(n, scored['versions'])}" for v, n in scored.get("versions", {}).items())
    return [f"{scored['rows']:,}", verdict, answered, *pairs]


def _number(metric: Output | None) -> str:
    if metric is None:
        return "–"
    return f"{metric['value']:.3f} ±{(metric['high'] - metric['low']) / 2:.3f}"


def _share(count: int, counts: dict[str, int]) -> str:
    return f"{count / sum(counts.values()):.0%}"


def _verdict(window: Output) -> str:
    drift = window["drift"]
    return "broken" if drift["broken"] else "drift" if drift["drifted"] else "calm"


def _gain(scored: Output) -> str:
    gain = scored.get("gain")
    if gain is None:
        return ""
    return f"loop better by {gain['value']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}] {gain['metric']}"


def _events(window: Output) -> str:
    events = [f"v{r['candidate']} {_end(r['phase'])}" for r in window["rollouts"]]
    retrain = window.get("retrain")
    if retrain:
        result = f"v{retrain['version']}" if retrain["version"] else "champion kept"
        events.append(f"retrained → {result}")
    return ", ".join(events)


def _end(phase: str) -> str:
    return "promoted" if phase == "Healthy" else "aborted" if phase == "Aborted" else phase


def step_table(steps: Sequence[tuple[str, float]]) -> Table:
    """Seconds by step for a terminal."""
    table = Table(title="Time by step", title_justify="left")
    table.add_column("step")
    table.add_column("s", justify="right")
    for name, seconds in steps:
        table.add_row(name, f"{seconds:.1f}")
    return table
