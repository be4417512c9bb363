"""The report's plots, each as an inline SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Output = dict[str, Any]
LOOP, FROZEN, ALERT = "#0f766e", "#b45309", "#b91c1c"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "axes.grid": True,
    "grid.alpha": 0.25,
}


def quality(windows: Sequence[Output], metric: str, title: str) -> str:
    """A metric per window for the loop's models and the frozen first one, with 95% bands."""
    figure, axes = _figure(3.0)
    for who, colour in (("loop", LOOP), ("frozen", FROZEN)):
        rows = [w for w in windows if who in w]
        x = [datetime.fromisoformat(w["name"]) for w in rows]
        value, low, high = ([w[who][metric][k] for w in rows] for k in ("value", "low", "high"))
        label = "loop's models" if who == "loop" else "frozen first model"
        axes.plot(x, value, marker="o", ms=4, color=colour, label=label)
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(title, loc="left", fontweight="bold")
    axes.legend(frameon=False, loc="best")
    figure.autofmt_xdate(rotation=0, ha="center")
    return _svg(figure)


def drift(windows: Sequence[Output]) -> str:
    """PSI of each feature in each window; a black dot where it counts as drifted."""
    names = sorted(
        {f["feature"] for w in windows for f in w["drift"]["features"]},
        key=lambda n: -max(f["psi"] for w in windows for f in w["drift"]["features"] if f["feature"] == n),
    )[:24]
    values = np.full((len(names), len(windows)), np.nan)
    figure, axes = _figure(0.8 + 0.2 * len(names))
    for column, window in enumerate(windows):
        for feature in window["drift"]["features"]:
            if feature["feature"] in names:
                row = names.index(feature["feature"])
                values[row, column] = feature["psi"]
                if feature["drifted"]:
                    axes.plot(column, row, marker="o", ms=3, color="black")
    image = axes.imshow(values, aspect="auto", cmap="YlOrRd", vmin=0, vmax=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(windows)), [w["start"][5:10] for w in windows])
    axes.grid(False)
    axes.set_title("Drift (PSI) against the champion's reference; dot: drifted", loc="left", fontweight="bold")
    figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01)
    return _svg(figure)


def versions(windows: Sequence[Output]) -> str:
    """Share of the answers that each version gave, per window."""
    names = sorted({v for w in windows for v in w["performance"]["rows_by_version"]}, key=int)
    colours = matplotlib.colormaps["tab10"]
    figure, axes = _figure(2.2)
    bottom = np.zeros(len(windows))
    for number, name in enumerate(names):
        rows = [w["performance"]["rows_by_version"] for w in windows]
        share = np.array([r.get(name, 0) / max(1, sum(r.values())) for r in rows])
        axes.bar(range(len(windows)), share, bottom=bottom, color=colours(number % 10), label=f"v{name}", width=0.9)
        bottom += share
    axes.set_xticks(range(len(windows)), [w["start"][5:10] for w in windows])
    axes.set_title("Who answered (share of rows by version)", loc="left", fontweight="bold")
    axes.legend(frameon=False, ncol=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return _svg(figure)


def durations(steps: Sequence[tuple[str, float]]) -> str:
    """Wall seconds of each step."""
    figure, axes = _figure(0.6 + 0.25 * len(steps))
    names, seconds = [s[0] for s in steps][::-1], [s[1] for s in steps][::-1]
    axes.barh(names, seconds, color=LOOP)
    for row, value in enumerate(seconds):
        axes.text(value, row, f" {value:.0f} s", va="center")
    axes.set_title("Time by step (s)", loc="left", fontweight="bold")
    return _svg(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.5, height), layout="constrained")
        return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]
