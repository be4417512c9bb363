"""How every plot looks, and how a figure becomes inline SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

LOOP, FROZEN = "#1f5fa8", "#d9771a"
INK, MUTED, GRID = "#1c2430", "#66707f", "#e4e8ee"
GOOD, BAD, NOTICE = "#2b8a57", "#b3261e", "#c98a00"
VERSIONS = ("#9fb4cc", "#1f5fa8", "#5aa9a3", "#8463b0", "#c2578c", "#7d8b34", "#3d4b5f", "#b08855")
WIDTH_IN = 11.2

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": "#b9c1cc",
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "svg.hashsalt": "millrace",
    "timezone": "UTC",
}


def version_colours(versions: Sequence[str]) -> dict[str, str]:
    """One colour per version, in the order given; they repeat after eight."""
    return {version: VERSIONS[i % len(VERSIONS)] for i, version in enumerate(versions)}


def position(moment: datetime) -> float:
    """Where a moment lies on a time axis: days since 1970, matplotlib's unit."""
    return moment.timestamp() / 86_400


def quiet(axes: Axes) -> None:
    """Takes the frame and ticks off axes that only carry marks."""
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an `<svg>` element that scales with the page; `label` is read out instead of it."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    text = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{text}" class="plot"', 1)
