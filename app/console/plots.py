"""The plots of the report, each a function from window rows to an inline SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from app.console.run_view import METRIC_NAMES, Estimate, WindowRow
from app.foundation.figure_style import (
    BAD,
    FROZEN,
    GOOD,
    GRID,
    INK,
    LOOP,
    MUTED,
    NOTICE,
    STYLE,
    WIDTH_IN,
    inline_svg,
    position,
    quiet,
    version_colours,
)

MAX_FEATURES = 24
PSI_LEVELS = (0.0, 0.1, 0.2, 0.5, 1.0)
PSI_COLOURS = ("#f3f5f8", "#fde3bd", "#fbb974", "#ee7d3a", "#b8400e")


def loop_plot(rows: Sequence[WindowRow], metric: str) -> str:
    """Loop against frozen with interval bands, who answered, retrainings and rollouts, on one time axis."""
    rollouts = [r for row in rows for r in row.rollouts]
    retrainings = [row.retraining for row in rows if row.retraining is not None]
    lanes = len(rollouts) + bool(retrainings)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.6 + 0.33 * lanes), layout="constrained")
        grid = figure.add_gridspec(3, 1, height_ratios=[3.1, 0.5, 0.33 * max(lanes, 1) + 0.1])
        top = figure.add_subplot(grid[0])
        strip, timeline = figure.add_subplot(grid[1], sharex=top), figure.add_subplot(grid[2], sharex=top)
        _bands(top, rows, metric)
        top.set_title(f"{METRIC_NAMES[metric]} per window, 95% bootstrap intervals")
        top.legend(loc="upper right", frameon=False, ncols=2, borderaxespad=0, bbox_to_anchor=(1, 1.12))
        _shares(strip, rows)
        _lanes(timeline, rows)
        for rollout in rollouts:
            if rollout.promoted:
                for axes in (top, strip, timeline):
                    axes.axvline(position(rollout.end), color=GOOD, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        top.set_xlim(position(rows[0].start), position(rows[-1].end))
        for axes in (top, strip):
            axes.tick_params(axis="x", labelbottom=False, length=0)
        _date_ticks(timeline, rows, 18)
    return inline_svg(figure, f"{METRIC_NAMES[metric]} of the loop and of the frozen model over time, with rollouts")


def metrics_plot(rows: Sequence[WindowRow], metrics: Sequence[str]) -> str:
    """Further metrics, loop against frozen, side by side."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.7), layout="constrained")
        for axes, metric in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics, strict=True):
            _bands(axes, rows, metric)
            axes.set_title(METRIC_NAMES[metric])
            _date_ticks(axes, rows, 7)
    return inline_svg(figure, "further metrics of the loop and of the frozen model over time")


def drift_map(rows: Sequence[WindowRow]) -> tuple[str, int]:
    """PSI per feature and window, features that moved most on top; also how many features are left out."""
    names = sorted({n for row in rows for n in row.psi if n != "score"}, key=lambda n: -_largest(rows, n))
    shown = names[:MAX_FEATURES] + (["score"] if any("score" in row.psi for row in rows) else [])
    values = np.array([[row.psi.get(name, np.nan) for row in rows] for name in shown]).reshape(len(shown), len(rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 1.25 + 0.245 * (len(shown) + 1)), layout="constrained")
        axes = figure.add_subplot()
        norm = BoundaryNorm([*PSI_LEVELS, 1e9], len(PSI_COLOURS))
        axes.pcolormesh(values, cmap=ListedColormap(PSI_COLOURS), norm=norm, edgecolors="white", linewidth=1.5)
        for (y, x), value in np.ndenumerate(values):
            _psi_cell(axes, x, y, value, shown[y] in rows[x].broken_features)
        colours = {"calm": "#dfe5ec", "drift": NOTICE, "broken": BAD}
        for x, row in enumerate(rows):
            axes.text(x + 0.5, -0.6, row.verdict, ha="center", va="center", fontsize=7.5, fontweight="bold",
                      color=MUTED if row.verdict == "calm" else "white",
                      bbox={"boxstyle": "round,pad=0.25", "color": colours[row.verdict]})  # fmt: skip
        told = {"score": "score (the model's answer)"}
        axes.set_yticks(np.arange(len(shown)) + 0.5, [told.get(name, name) for name in shown])
        axes.set_xticks(np.arange(len(rows)) + 0.5, _dates(rows, 1))
        axes.tick_params(axis="y", labelcolor=INK)
        axes.xaxis.tick_top()
        axes.set_ylim(len(shown), -1.15)
        quiet(axes)
        _psi_key(figure)
    return inline_svg(figure, "drift of each feature in each window as PSI"), len(names[MAX_FEATURES:])


def gain_plot(months: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> str:
    """How much better the loop was than the frozen model on the same rows, by month and in all."""
    entries = [e for e in (*months, {**whole, "name": "all"}) if e.get("gain")]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.75 + 0.34 * len(entries)), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, linewidth=1)
        for y, entry in enumerate(entries):
            gain = entry["gain"]
            colour = GOOD if gain["low"] > 0 else BAD if gain["high"] < 0 else MUTED
            size = 9 if entry["name"] == "all" else 6
            axes.plot([gain["low"], gain["high"]], [y, y], color=colour, linewidth=size / 2, alpha=0.35,
                      solid_capstyle="round")  # fmt: skip
            axes.plot(gain["value"], y, "o", color=colour, markersize=size)
            axes.annotate(f"{gain['value']:+.4f}", (gain["high"], y), xytext=(9, 0), textcoords="offset points",
                          va="center", fontsize=8.5, color=colour)  # fmt: skip
        axes.set_yticks(range(len(entries)), [f"{e['name']}  ({e['rows']:,} rows)" for e in entries])
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.12)
        axes.grid(axis="x")
        quiet(axes)
        axes.set_xlabel("← frozen better          loop better →")
    return inline_svg(figure, "paired gain of the loop over the frozen model by month")


def durations_plot(durations_s: Sequence[tuple[str, float]]) -> str:
    """Wall seconds of each step, in order."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.5 + 0.3 * len(durations_s)), layout="constrained")
        axes = figure.add_subplot()
        seconds = [s for _, s in durations_s]
        bars = axes.barh([name for name, _ in durations_s], seconds, color=LOOP, height=0.62, alpha=0.85)
        axes.bar_label(bars, [f"{s:,.1f} s" for s in seconds], padding=5, fontsize=8.5, color=MUTED)
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelbottom=False)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.margins(x=0.1)
        quiet(axes)
    return inline_svg(figure, "wall seconds of each step")


def _bands(axes: Axes, rows: Sequence[WindowRow], metric: str) -> None:
    x = [position(row.middle) for row in rows]
    unknown = Estimate(float("nan"), float("nan"), float("nan"))
    for name, colour, marker, series in (
        ("frozen first model", FROZEN, "s", [row.frozen.get(metric, unknown) for row in rows]),
        ("the loop", LOOP, "o", [row.loop.get(metric, unknown) for row in rows]),
    ):
        axes.fill_between(x, [e.low for e in series], [e.high for e in series], color=colour, alpha=0.16, linewidth=0)
        axes.plot(x, [e.value for e in series], color=colour, marker=marker, markersize=4, linewidth=1.8, label=name)
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _date_ticks(axes: Axes, rows: Sequence[WindowRow], at_most: int) -> None:
    step = -(-len(rows) // at_most)
    axes.set_xticks([position(row.start) for row in rows[::step]], _dates(rows, step))


def _dates(rows: Sequence[WindowRow], step: int) -> list[str]:
    """Starts of windows as text, with the hour where a day holds several."""
    starts = [row.start for row in rows]
    hourly = len({start.date() for start in starts}) < len(starts)
    return [f"{start.day} {start:%b}" + (f"\n{start:%H:%M}" if hourly else "") for start in starts[::step]]


def _shares(axes: Axes, rows: Sequence[WindowRow]) -> None:
    versions = list(dict.fromkeys(v for row in rows for v in row.versions))
    colours = version_colours(versions)
    for row in rows:
        left, width = position(row.start), position(row.end) - position(row.start)
        bottom, total = 0.0, max(1, sum(row.versions.values()))
        for version in versions:
            share = row.versions.get(version, 0) / total
            axes.bar(left, share, width, bottom, align="edge", color=colours[version], edgecolor="white", linewidth=1)
            if share > 0.3:
                axes.text(left + width / 2, bottom + share / 2, f"v{version}", ha="center", va="center", fontsize=8,
                          color="white", fontweight="bold")  # fmt: skip
            bottom += share
    axes.set_ylim(0, 1)
    axes.set_yticks([0.5], ["answered by"])
    quiet(axes)


def _lanes(axes: Axes, rows: Sequence[WindowRow]) -> None:
    retrainings = [row.retraining for row in rows if row.retraining is not None]
    rollouts = [r for row in rows for r in row.rollouts]
    span = (position(rows[0].start), position(rows[-1].end))
    labels = ["retraining"] * bool(retrainings) + [f"rollout v{r.candidate}" for r in rollouts]
    for retraining in retrainings:
        axes.plot(position(retraining.at), 0, "D", color=LOOP if retraining.version else MUTED, markersize=6)
        told = f"v{retraining.version}" if retraining.version else "kept"
        _beside(axes, position(retraining.at), position(retraining.at), 0, span, told, INK)
    for lane, rollout in enumerate(rollouts, start=int(bool(retrainings))):
        colour = GOOD if rollout.promoted else BAD
        left, right = position(rollout.start), position(rollout.end)
        axes.barh(lane, max(right - left, 0.004 * _days(rows)), left=left, height=0.5, color=colour)
        axes.axhline(lane, color=GRID, linewidth=0.8, zorder=0)
        told = "promoted" if rollout.promoted else f"{rollout.phase.lower()}: {rollout.reason}"
        _beside(axes, left, right, lane, span, told if len(told) < 58 else told[:56] + "…", colour)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)
    quiet(axes)


def _beside(axes: Axes, left: float, right: float, y: float, span: tuple[float, float], text: str, colour: str) -> None:
    """Writes right of a mark, or left of it where the axis (about 150 letters wide) ends too soon."""
    late = (span[1] - right) / (span[1] - span[0]) < len(text) / 150
    axes.annotate(text, (left if late else right, y), xytext=(-9 if late else 8, 0), textcoords="offset points",
                  va="center", ha="right" if late else "left", fontsize=8.5, color=colour,
                  bbox={"color": "white", "pad": 1})  # fmt: skip


def _psi_cell(axes: Axes, x: int, y: int, value: float, broken: bool) -> None:
    if broken:
        axes.text(x + 0.5, y + 0.5, "×", ha="center", va="center", fontsize=11, color=BAD, fontweight="bold")
    elif value >= 0.2:
        text, colour = (f"{value:.1f}" if value < 9.95 else "10+"), ("white" if value >= 0.5 else INK)
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7.5, color=colour)


def _psi_key(figure: Figure) -> None:
    names = ["PSI < 0.1", "0.1–0.2", "0.2–0.5", "0.5–1", "≥ 1"]
    patches = [mpl.patches.Patch(color=c, label=n) for c, n in zip(PSI_COLOURS, names, strict=True)]
    figure.legend(handles=patches, loc="outside lower right", ncols=len(names), frameon=False, fontsize=8.5,
                  handlelength=1.1, handleheight=1.1, columnspacing=1.3)  # fmt: skip


def _largest(rows: Sequence[WindowRow], name: str) -> float:
    return max((row.psi[name] for row in rows if name in row.psi and row.psi[name] == row.psi[name]), default=0.0)


def _days(rows: Sequence[WindowRow]) -> float:
    return (rows[-1].end - rows[0].start).total_seconds() / 86_400
