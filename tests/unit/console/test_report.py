"""The report shows what the run recorded, escapes it, and survives what a run may lack."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from app.console.report import ReportData, render_html, render_table, step_table, write_report
from app.console.run_view import gain_sentence, request_totals, window_rows


class Outline(HTMLParser):
    """Headings, plots and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.plots: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "svg":
            self.plots.append(values.get("aria-label") or "")
        self.addresses += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")]


def printed(sample: ReportData, width: int = 140) -> str:
    out = StringIO()
    Console(file=out, width=width).print(render_table(sample), step_table(sample.step_durations_s))
    return out.getvalue()


def test_the_page_stands_alone_and_has_every_plot(sample: ReportData, tmp_path: Path) -> None:
    path = tmp_path / "reports" / "run.html"
    write_report(path, sample)
    outline = Outline(path.read_text(encoding="utf-8"))
    assert len(outline.plots) == 5 and all(outline.plots)
    assert outline.addresses == []
    assert [p.name for p in path.parent.iterdir()] == ["run.html"]


def test_the_page_says_what_happened(sample: ReportData) -> None:
    page = render_html(sample)
    for said in ("The loop paid", "336,776", "broken data: pressure", "v2 promoted", "v3 aborted", "champion kept"):
        assert said in page


def test_text_of_the_run_cannot_become_markup(sample: ReportData) -> None:
    nasty = "<script>alert(1)</script>"
    page = render_html(replace(sample, description=nasty, places={nasty: nasty}, project=nasty))
    assert nasty not in page


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_has_every_window_month_and_both_models(sample: ReportData, width: int) -> None:
    text = printed(sample, width)
    for start in ("01 Sep", "22 Dec", "2013-10", "all"):
        assert start in text
    if width == 140:
        assert "0.736 ±.002" in text and "0.730 ±.002" in text and "[+0.0039, +0.0081]" in text


def test_a_run_without_windows_or_sweep_still_gets_a_report(sample: ReportData) -> None:
    bare = replace(
        sample,
        windows=[],
        sweep={"best": {}, "trials": []},
        assessment={"windows": [], "months": [], "whole": {"name": "whole", "rows": 0}},
        step_durations_s=[],
    )
    page = render_html(bare)
    assert "Too few labels" in page and "The first model" in page
    assert "window" not in re.findall(r"<h2>(.*?)</h2>", page)
    assert printed(bare)


def test_a_window_with_too_few_labels_is_a_gap(sample: ReportData) -> None:
    windows = [dict(w) for w in sample.windows]
    windows[3] = {**windows[3], "performance": {**windows[3]["performance"], "metrics": {}}}
    entries = list(sample.assessment["windows"])
    entries[3] = {"name": entries[3]["name"], "rows": 4}
    data = replace(sample, windows=windows, assessment={**sample.assessment, "windows": entries})
    rows = window_rows(data.windows, data.assessment)
    assert rows[3].loop == {} and rows[3].frozen == {}
    assert "–" in printed(data) and render_html(data)


def test_numbers_that_could_not_be_computed_are_dashes(sample: ReportData) -> None:
    entries = [dict(w) for w in sample.assessment["windows"]]
    entries[0]["loop"] = {"roc_auc": {"value": None, "low": None, "high": float("nan")}}
    data = replace(sample, assessment={**sample.assessment, "windows": entries})
    assert "nan" not in printed(data)
    assert render_html(data)


def test_regression_shows_its_own_metrics(sample: ReportData) -> None:
    def renamed(entry: dict[str, dict[str, object]]) -> dict[str, object]:
        names = {"roc_auc": "mae", "log_loss": "mse", "ece": "r2"}
        return {k: {names[m]: v for m, v in e.items()} if k in ("loop", "frozen") else e for k, e in entry.items()}

    assessment = {
        "windows": [renamed(w) for w in sample.assessment["windows"]],
        "months": [renamed(m) for m in sample.assessment["months"]],
        "whole": renamed(sample.assessment["whole"]),
    }
    data = replace(sample, task="regression", assessment=assessment)
    assert "MAE" in printed(data) and "ECE" not in printed(data)
    assert render_html(data)


def test_requests_are_summed_over_restarts_of_the_client() -> None:
    counts = [{"requests": {"sent": n, "failed": 0, "fallbacks": f}} for n, f in ((10, 1), (25, 1), (5, 0), (9, 2))]
    assert request_totals(counts) == {"sent": 34, "failed": 0, "fallbacks": 3}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.001, 0.01, "The loop paid"), (-0.02, -0.001, "did not pay"), (-0.01, 0.01, "No clear difference")],
)
def test_whether_it_paid_follows_from_the_interval(low: float, high: float, said: str) -> None:
    gain = {"metric": "roc_auc", "value": (low + high) / 2, "low": low, "high": high}
    assert said in gain_sentence({"rows": 1_000, "gain": gain})
