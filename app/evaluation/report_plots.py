"""The plots of a validation report, each a function from what was measured to an inline SVG. Legend: B = rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from app.evaluation.calibration import reliability
from app.evaluation.gates.fairness import Gap
from app.evaluation.importance import Importance
from app.evaluation.metrics import Floats
from app.evaluation.ranking import pr_curve, roc_curve
from app.evaluation.slice_scores import SliceScore
from app.foundation.figure_style import (
    BAD,
    FROZEN,
    GOOD,
    INK,
    LOOP,
    MUTED,
    STYLE,
    WIDTH_IN,
    inline_svg,
    quiet,
)

COLOURS = {"challenger": LOOP, "champion": GOOD, "baseline": FROZEN}
NUM_POINTS = 400  # of a drawn curve
MAX_BARS = 25


def curves_plot(label: Floats, models: Mapping[str, Floats]) -> str:
    """ROC and precision over recall of every model."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.3), layout="constrained")
        roc, pr = figure.subplots(1, 2)
        for name, score in models.items():
            x, y = _thinned(*roc_curve(label, score))
            roc.plot(x, y, color=COLOURS[name], linewidth=1.8, label=name)
            recall, precision = _thinned(*pr_curve(label, score))
            pr.plot(recall, precision, color=COLOURS[name], linewidth=1.8, label=name)
        roc.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        pr.axhline(label.mean(), color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        _named(roc, "ROC", "false positive rate", "true positive rate")
        _named(pr, "Precision over recall", "recall", "precision")
        roc.legend(loc="lower right", frameon=False)
        for axes in (roc, pr):
            axes.set(xlim=(0, 1), ylim=(0, 1.02))
    return inline_svg(figure, "ROC curve and precision over recall of each model")


def calibration_plot(label: Floats, models: Mapping[str, Floats]) -> str:
    """Share of ones by score in ten bins of equal size, and how the challenger's scores are spread in both classes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.3), layout="constrained")
        curve, spread = figure.subplots(1, 2)
        top = 0.0
        for name, score in models.items():
            bins = reliability(label, score)
            x, y = [b.score for b in bins], [b.observed for b in bins]
            errors = [[b.observed - b.low for b in bins], [b.high - b.observed for b in bins]]
            curve.errorbar(x, y, errors, color=COLOURS[name], marker="o", markersize=4, linewidth=1.5, label=name)
            top = max([top, *x, *(b.high for b in bins)])
        curve.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        curve.set(xlim=(0, min(1, top * 1.05)), ylim=(0, min(1, top * 1.05)))
        _named(curve, "Calibration", "mean score of the bin", "share that came true, 95% interval")
        curve.legend(loc="upper left", frameon=False)
        edges = np.linspace(0, 1, 41)
        for value, colour, told in ((0, MUTED, "label 0"), (1, BAD, "label 1")):
            scores = models["challenger"][label == value]
            if len(scores):
                spread.hist(scores, edges, color=colour, alpha=0.55, density=True, label=told)
        _named(spread, "Scores of the challenger", "score", "density")
        spread.legend(loc="upper right", frameon=False)
    return inline_svg(figure, "reliability diagram and distribution of scores")


def values_plot(label: Floats, models: Mapping[str, Floats]) -> str:
    """For values: the challenger's score over the label, and everyone's errors."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.3), layout="constrained")
        both, errors = figure.subplots(1, 2)
        both.hexbin(label, models["challenger"], gridsize=45, bins="log", cmap="Blues", mincnt=1, linewidths=0.2)
        ends = [float(label.min()), float(label.max())]
        both.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        _named(both, "Score over label (darker: more rows)", "label", "score")
        low, high = np.quantile(np.concatenate([s - label for s in models.values()]), [0.005, 0.995])
        for name, score in models.items():
            errors.hist(score - label, np.linspace(low, high, 61), color=COLOURS[name], histtype="step", linewidth=1.8,
                        density=True, label=name)  # fmt: skip
        errors.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        _named(errors, "Errors", "score less label", "density")
        errors.legend(loc="upper right", frameon=False)
    return inline_svg(figure, "scores over labels and distribution of errors")


def slices_plot(scores: Sequence[SliceScore], title: str) -> str:
    """A metric of each model in each slice, with intervals, columns one below the other."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.27 * len(scores)), layout="constrained")
        axes = figure.add_subplot()
        models = [name for name in COLOURS if any(name in each.by_model for each in scores)]
        for offset, name in enumerate(models):
            for y, each in enumerate(scores):
                value, low, high = each.by_model[name]
                place = y + 0.22 * (offset - (len(models) - 1) / 2)
                axes.plot([low, high], [place, place], color=COLOURS[name], linewidth=2.4, alpha=0.4)
                axes.plot(value, place, "o", color=COLOURS[name], markersize=4, label=name if y == 0 else None)
        for y in range(1, len(scores)):
            if scores[y].column != scores[y - 1].column:
                axes.axhline(y - 0.5, color="#c8d0da", linewidth=1)
        axes.set_yticks(range(len(scores)), [f"{each.name}  ({each.num_rows:,})" for each in scores])
        axes.set_ylim(len(scores) - 0.4, -0.6)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(axis="x")
        quiet(axes)
        axes.set_title(title)
        axes.legend(loc="upper right", frameon=False, ncols=3, borderaxespad=0, bbox_to_anchor=(1, 1.0), framealpha=1)
    return inline_svg(figure, f"{title} by slice")


def learning_plot(epochs: Sequence[Mapping[str, float]]) -> str:
    """Loss of each epoch."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN / 2, 2.6), layout="constrained")
        axes = figure.add_subplot()
        known = [(each["epoch"], each["loss"]) for each in epochs if "loss" in each]
        axes.plot([x for x, _ in known], [y for _, y in known], color=LOOP, marker="o", markersize=4, linewidth=1.8)
        axes.set_xticks([x for x, _ in known][:: max(1, len(known) // 12)])
        _named(axes, "Training loss", "epoch", "mean loss")
    return inline_svg(figure, "training loss of each epoch")


def importance_plot(found: Sequence[Importance], title: str) -> str:
    """Inputs by how much worse the metric gets without them."""
    shown = found[:MAX_BARS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 0.8 + 0.25 * len(shown)), layout="constrained")
        axes = figure.add_subplot()
        values = [each.value for each in shown]
        below = [each.value - each.low for each in shown]
        above = [each.high - each.value for each in shown]
        axes.barh([each.name for each in shown], values, xerr=[below, above], color=LOOP, alpha=0.8, height=0.62,
                  error_kw={"ecolor": INK, "elinewidth": 1})  # fmt: skip
        axes.invert_yaxis()
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.grid(axis="x")
        axes.tick_params(axis="y", labelcolor=INK)
        quiet(axes)
        axes.set_title(title)
    return inline_svg(figure, title)


def fairness_plot(gaps: Mapping[str, Gap]) -> str:
    """The rate of each group for each fairness gate, side by side."""
    with mpl.rc_context(STYLE):
        most = max(len(gap.groups) for gap in gaps.values())
        columns = min(3, len(gaps))
        rows = -(-len(gaps) // columns)
        figure = Figure(figsize=(WIDTH_IN, rows * (0.9 + 0.26 * most)), layout="constrained")
        places = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (title, gap) in zip(places, gaps.items(), strict=False):
            for y, group in enumerate(gap.groups):
                axes.plot([group.low, group.high], [y, y], color=LOOP, linewidth=3, alpha=0.35, solid_capstyle="round")
                axes.plot(group.rate, y, "o", color=LOOP, markersize=5)
            axes.set_yticks(range(len(gap.groups)), [f"{g.name} ({g.num_rows:,})" for g in gap.groups])
            axes.margins(y=0.3)
            axes.grid(axis="x")
            axes.tick_params(axis="y", labelcolor=INK)
            quiet(axes)
            axes.set_title(title)
        for axes in places[len(gaps) :]:
            axes.set_visible(False)
    return inline_svg(figure, "rates by group")


def _named(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid()
    axes.tick_params(length=0)


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most `NUM_POINTS` points of a curve, both ends among them."""
    picked = np.unique(np.linspace(0, len(x) - 1, min(NUM_POINTS, len(x))).astype(int))
    return x[picked], y[picked]
