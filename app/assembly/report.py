"""Gathers what the steps of a run left and writes the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.console.report import ReportData, render_table, step_table, write_report
from app.foundation.lineage.decisions import decisions_of
from app.pipeline.assess import assess_loop
from app.pipeline.live import window_outputs
from app.pipeline.session import Session

LIVE = "window "


def write_run_report(session: Session) -> None:
    """Assesses the loop, writes `report.html` into the home and a copy beside it per run, prints the table."""
    if session.run.output("assess") is None:
        assess_loop(session)
    data = report_data(session)
    path = session.settings.home / "report.html"
    kept = session.settings.reports / f"{session.run_id}.html"
    write_report(kept, data)
    write_report(path, replace(data, reports_at=f"{session.settings.reports.name}/"))
    console = session.progress.console
    console.print(render_table(data))
    console.print(step_table(data.step_durations_s))
    console.print(f"report: {path}", soft_wrap=True)
    for what, how in data.places.items():
        console.print(f"{what}: {how}", soft_wrap=True, highlight=False)
    session.run.finish("succeeded")


def report_data(session: Session) -> ReportData:
    """The run as the report shows it."""
    run, project = session.run, session.project
    return ReportData(
        project=project.name,
        description=project.description,
        run_id=run.run_id,
        task=project.label.task,
        ingest=run.require("ingest", "ingest"),
        sweep=run.require("sweep", "sweep"),
        train=run.require("train", "train"),
        windows=window_outputs(session),
        assessment=run.require("assess", "report"),
        decisions=[
            {
                "event_at": None if d.event_at is None else f"{d.event_at:%Y-%m-%d %H:%M}",
                "actor": d.actor,
                "decision": d.decision,
                "reason": d.reason,
            }
            for d in decisions_of(session.database, run.run_id)
        ],
        step_durations_s=grouped_durations_s(run.durations_s()),
        provenance={k: v for k, v in session.provenance.items() if k != "code_diff"},
        places={
            "MLflow": f"mlflow ui --backend-store-uri {session.settings.mlflow_url}",
            "Ray dashboard": "make up, then http://127.0.0.1:8265",
            "home": str(Path(session.settings.home)),
        },
    )


def grouped_durations_s(steps: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The windows of the live replay as one step."""
    live = sum(seconds for name, seconds in steps if name.startswith(LIVE))
    rest = [(name, seconds) for name, seconds in steps if not name.startswith(LIVE) and name != "bad candidate"]
    place = next((i for i, (name, _) in enumerate(rest) if name == "assess"), len(rest))
    return [*rest[:place], ("live replay with retraining", live), *rest[place:]]
