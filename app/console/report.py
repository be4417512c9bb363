"""The report of a run: one self-contained HTML page, and tables for the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from app.console.plots import drift_map, durations_plot, gain_plot, loop_plot, metrics_plot
from app.console.run_view import (
    METRIC_NAMES,
    SHOWN_METRICS,
    Estimate,
    Json,
    WindowRow,
    estimates,
    gain_sentence,
    request_totals,
    window_rows,
)
from app.foundation.templates import template_environment

TEMPLATE = "report.html.j2"
LONG_S = 90.0


@dataclass(frozen=True)
class ReportData:
    """A run as its steps recorded it (JSON outputs), and what surrounds it.

    `places`: where the same can be seen elsewhere, as name to command or address. `reports_at`: what stands before the
    file names of validation reports in a link; nothing where they lie beside the page.
    """

    project: str
    description: str
    run_id: str
    task: str
    ingest: Json
    sweep: Json
    train: Json
    windows: Sequence[Json]
    assessment: Json
    decisions: Sequence[Json]
    step_durations_s: Sequence[tuple[str, float]]
    provenance: Json
    places: Mapping[str, str] = field(default_factory=dict)
    written_at: datetime | None = None  # None: now
    reports_at: str = ""


def write_report(path: Path, data: ReportData) -> None:
    """Writes the page; it needs no other file and no network. A reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(render_html(data), encoding="utf-8")
    unfinished.replace(path)


def render_html(data: ReportData) -> str:
    """The page as text."""
    rows = window_rows(data.windows, data.assessment)
    shown = SHOWN_METRICS[data.task]
    environment = template_environment(
        Path(__file__).parent, estimate=_estimate, duration=duration, to_json=_pretty_json
    )
    heat_map, num_hidden = drift_map(rows) if rows else ("", 0)
    whole = data.assessment.get("whole", {})
    return environment.get_template(TEMPLATE).render(
        data=data,
        rows=rows,
        shown=shown,
        names=METRIC_NAMES,
        verdict=gain_sentence(whole),
        tiles=_tiles(data, rows),
        validation={who: estimates(metrics) for who, metrics in data.train["metrics"].items()},
        comparisons=_comparisons(data.assessment),
        retrainings=[output["retrain"] for output in data.windows if output.get("retrain")],
        rollouts=[r for output in data.windows for r in output.get("rollouts", ())],
        requests=request_totals(data.windows),
        loop_svg=loop_plot(rows, shown[0]) if rows else "",
        metrics_svg=metrics_plot(rows, shown[1:]) if rows else "",
        gain_svg=gain_plot(data.assessment.get("months", ()), whole) if whole.get("gain") else "",
        drift_svg=heat_map,
        num_hidden=num_hidden,
        durations_svg=durations_plot(data.step_durations_s) if data.step_durations_s else "",
        total_s=sum(s for _, s in data.step_durations_s),
        written_at=data.written_at or datetime.now(UTC),
    )


def render_table(data: ReportData) -> Table:
    """The final table: a line per window with its drift, who answered, and the loop beside the frozen first model."""
    rows, shown = window_rows(data.windows, data.assessment), SHOWN_METRICS[data.task]
    table = Table(
        title=f"{data.project}: the loop beside the frozen first model (value ± half of the 95% interval)",
        caption=gain_sentence(data.assessment.get("whole", {})),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name, side in (("from", "left"), ("rows", "right"), ("drift", "left"), ("answered", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for metric in shown:
        table.add_column(f"{METRIC_NAMES[metric]}\n[cyan]loop[/]\n[yellow]frozen[/]", justify="right")
    table.add_column("what happened", overflow="fold")
    for row in rows:
        table.add_row(*_table_cells(row, shown))
    table.add_section()
    for entry in _comparisons(data.assessment):
        gain = entry["gain"]
        table.add_row(
            "[bold]all[/]" if entry["name"] == "all" else entry["name"],
            f"{entry['rows']:,}",
            "",
            _share_text(entry["versions"]),
            *_pairs(entry["loop"], entry["frozen"], shown),
            Text(f"gain {gain['value']:+.4f}\n[{gain['low']:+.4f}, {gain['high']:+.4f}]"),
        )
    return table


def step_table(durations_s: Iterable[tuple[str, float]]) -> Table:
    """Wall time of each step."""
    durations = list(durations_s)
    table = Table("step", title="Steps", title_justify="left", show_footer=True)
    table.columns[0].footer = "all"
    table.add_column("time", justify="right", footer=duration(sum(s for _, s in durations)))
    for name, seconds in durations:
        table.add_row(name, duration(seconds))
    return table


def duration(seconds: float) -> str:
    """Seconds for a reader.

    >>> duration(12.34), duration(200)
    ('12.3 s', '3 min 20 s')
    """
    if seconds < LONG_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _table_cells(row: WindowRow, shown: Sequence[str]) -> list[str | Text]:
    style = {"calm": "dim", "drift": "yellow", "broken": "bold red"}[row.verdict]
    return [
        f"{row.start:%d %b}",
        f"{row.num_rows:,}",
        Text(row.verdict, style=style),
        _share_text(row.versions),
        *_pairs(row.loop, row.frozen, shown),
        "\n".join(row.events),
    ]


def _pairs(loop: Mapping[str, Estimate], frozen: Mapping[str, Estimate], shown: Sequence[str]) -> list[str | Text]:
    """Per metric the loop's number over the frozen model's."""
    cells: list[str | Text] = []
    for metric in shown:
        cell = Text(_half_width(loop.get(metric)), style="cyan")
        cells.append(cell.append("\n" + _half_width(frozen.get(metric)), style="yellow"))
    return cells


def _share_text(versions: Mapping[str, int]) -> str:
    total = sum(versions.values())
    return "\n".join(f"v{v}" if n == total else f"v{v} {n / total:.0%}" for v, n in versions.items())


def _half_width(estimate: Estimate | None) -> str:
    if estimate is None or not estimate.known:
        return "–"
    return f"{estimate.value:.3f} ±{(estimate.high - estimate.low) / 2:.3f}".replace("±0.", "±.")


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None or not estimate.known:
        return "–"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]".replace("[0.", "[.").replace(" 0.", " .")


def _pretty_json(value: object) -> str:
    return json.dumps(value, indent=2, default=str, ensure_ascii=False)


def _comparisons(assessment: Json) -> list[dict[str, Any]]:
    entries = [*assessment.get("months", ()), {**assessment.get("whole", {}), "name": "all"}]
    return [
        {**entry, "loop": estimates(entry["loop"]), "frozen": estimates(entry["frozen"])}
        for entry in entries
        if entry.get("gain")
    ]


def _tiles(data: ReportData, rows: Sequence[WindowRow]) -> list[tuple[str, str, str]]:
    """Value, name and a word beside it, for the head of the page."""
    rollouts = [r for row in rows for r in row.rollouts]
    promoted = sum(r.promoted for r in rollouts)
    retrained = [row.retraining for row in rows if row.retraining is not None]
    requests = request_totals(data.windows)
    broken = sum(row.broken for row in rows)
    return [
        (f"{sum(row.num_rows for row in rows):,}", "rows answered", f"{requests['sent']:,} requests"),
        (f"{requests['failed']:,}", "requests failed", f"{requests['fallbacks']:,} fell back to the champion"),
        (f"{sum(row.drifted for row in rows)} of {len(rows)}", "windows drifted", f"{broken} with broken data"),
        (f"{len(retrained)}", "retrainings", f"{sum(r.version is not None for r in retrained)} passed the gates"),
        (f"{promoted}", "promotions", f"{len(rollouts) - promoted} aborted"),
        (duration(sum(s for _, s in data.step_durations_s)), "wall time", f"{len(data.step_durations_s)} steps"),
    ]
