"""Who is affected by a change of a source, view, service or entity. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.errors import FeatureStoreError
from app.features.declared import KIND_NAMES, Kind
from app.features.lineage_graph import LineageGraph, Node
from app.features.registry_plan import Change
from app.spec import Project


@dataclass(frozen=True)
class Impact:
    """What comes from `reference`, by name. Models and prediction logs are `name@version`."""

    reference: str
    views: tuple[str, ...] = ()
    on_demand_views: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    training_sets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()

    @property
    def users(self) -> list[str]:
        """Everything affected but for rows that were written already, each with its kind."""
        kinds = (
            ("feature view", self.views), ("on-demand view", self.on_demand_views), ("feature service", self.services),
            ("model", self.models),
        )
        return [f"{kind} {name}" for kind, names in kinds for name in names]

    def __str__(self) -> str:
        return f"{self.reference}: {', '.join(self.users) or 'nothing'} affected"


def find_impact(graph: LineageGraph, reference: str) -> Impact:
    """What is downstream of a reference.

    Raises:
        UnknownNameError: nothing is called so.
    """
    start = graph.find(reference)
    own = {graph.nodes[id].group for id in start}
    if reference.rpartition("/")[2] in {e for id in start for e in graph.nodes[id].detail.get("entities", ())}:
        own = set()  # an entity's own features are affected by it
        reached = [graph.nodes[id] for id in start] + graph.downstream(start)
    else:
        reached = graph.downstream(start)
    return Impact(
        reference,
        views=_names(n.group.partition("/")[2] for n in reached if n.kind == "view" and n.group not in own),
        on_demand_views=_names(
            n.group.partition("/")[2] for n in reached if n.kind == "on_demand_view" and n.group not in own
        ),
        services=_names(n.group.partition("/")[2] for n in reached if n.kind == "service" and n.group not in own),
        training_sets=_names(n.name for n in reached if n.kind == "training_set"),
        models=_names(_model(n) for n in reached if n.kind == "model"),
        predictions=_names(n.name for n in reached if n.kind == "predictions"),
    )


def with_impact(graph: LineageGraph, change: Change) -> Change:
    """The change with who it affects; what is new, or only described anew, affects nobody."""
    if change.action in ("new", "update"):
        return change
    impact = find_impact(graph, f"{change.kind}/{change.name}")
    return replace(change, feeds=impact.on_demand_views, affects=impact.services, models=impact.models)


def refuse_if_used(project: Project, graph: LineageGraph, kind: Kind, name: str) -> None:
    """Passes when nothing reads a definition.

    Raises:
        FeatureStoreError: something does; the message lists all of it.
    """
    if kind == "entity":
        users = [f"feature view {v.name}" for v in project.views if name in {e.name for e in v.entities}]
    else:
        users = find_impact(graph, f"{kind}/{name}").users
    if users:
        raise FeatureStoreError(
            f"{KIND_NAMES[kind]} {name!r} is in use by {', '.join(users)}. Take it out of those first, or roll the "
            "models back to versions that do without it; nothing was deleted.", name=name, users=users,
        )


def _model(node: Node) -> str:
    answers = node.detail.get("answers")
    return f"{node.name} ({answers})" if answers else node.name


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(names)))
