"""One rollout for the terminal: where it stands, its steps, what was measured, what happened."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from app.rollout.decide import Phase
from app.rollout.operations import RolloutView
from app.rollout.plan import describe_step
from app.rollout.record import Driver

COLOURS = {
    Phase.HEALTHY: "green", Phase.ABORTED: "red", Phase.DEGRADED: "red", Phase.PAUSED: "yellow",
}
SHOWN_TRANSITIONS = 8


def rollout_panel(view: RolloutView) -> Panel:
    """The rollout in a frame titled with its name and phase."""
    state = view.state
    colour = COLOURS.get(state.phase, "cyan")
    parts: list[Any] = [_facts(view)]
    if state.policy.steps:
        parts.append(_steps(view))
    if view.analyses:
        parts.append(_measurements(view))
    parts.append(_transitions(view))
    title = f"{escape(state.rollout_id)} [{colour}]{state.phase.value}[/]"
    return Panel(Group(*parts), title=title, title_align="left", border_style=colour)


def _facts(view: RolloutView) -> Table:
    state, facts = view.state, Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("strategy", f"{state.policy.strategy}: {state.champion} → {state.candidate}")
    facts.add_row("traffic", f"version {view.route.champion} at epoch {view.route.epoch}, {_share(view)}")
    followed = sum(a.epoch >= view.route.epoch for a in view.champions)
    facts.add_row("replicas", f"{followed} of {len(view.champions)} follow, {len(view.candidates)} of the candidate's")
    facts.add_row("reason", escape(state.reason))
    if not view.is_over and state.driver is Driver.PLATFORM and not view.driver_alive:
        facts.add_row("[red]driver[/]", "[red]nobody moves this rollout on: is the platform up?[/]")
    return facts


def _share(view: RolloutView) -> str:
    if view.route.candidate is None:
        return "no candidate"
    return f"{view.route.weight_percent:g}% to {view.route.candidate}"


def _steps(view: RolloutView) -> Text:
    at, text = view.state.step_index, Text()
    done = len(view.state.policy.steps) if view.state.phase is Phase.HEALTHY else at
    for index, step in enumerate(view.state.policy.steps):
        mark, style = ("✓", "green") if index < done else ("▶", "bold") if index == at else ("·", "dim")
        text.append(f"{mark} {describe_step(step)}  ", style)
    return text


def _measurements(view: RolloutView) -> Table:
    table = Table("step", "metric", "verdict", "last value", "rows", "measurements", box=None, padding=(0, 2, 0, 0))
    for step, analysis in sorted(view.analyses.items()):
        for metric in analysis["metrics"]:
            last = metric["outcomes"][-1] if metric["outcomes"] else {"value": None, "num_rows": 0}
            value = "" if last["value"] is None else f"{last['value']:.4g}"
            table.add_row(
                str(step), metric["name"], metric["verdict"], value, str(last["num_rows"]),
                str(len(metric["outcomes"])),
            )
    return table


def _transitions(view: RolloutView) -> Table:
    table = Table("when", "phase", "what", "reason", box=None, padding=(0, 2, 0, 0))
    for t in view.transitions[-SHOWN_TRANSITIONS:]:
        table.add_row(f"{t.event_at:%Y-%m-%d %H:%M:%S}", t.to_phase.value, t.action.value, escape(t.reason))
    return table
