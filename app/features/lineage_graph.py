"""What came from what, as a graph from source columns to predictions. Pure.

    source/sales.amount → view/turnover@v1:amount_sum_1d → service/buying@v1
        → training_set/5d0c… → model/shop@3 → predictions/shop@3
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from app.errors import UnknownNameError

NodeKind = Literal["source", "request", "view", "on_demand_view", "service", "training_set", "model", "predictions"]
Role = Literal["value", "rows", "key", "time", "label", "part", "learned", "answered"]
ORDER: tuple[NodeKind, ...] = (
    "source", "request", "view", "on_demand_view", "service", "training_set", "model", "predictions"
)


@dataclass(frozen=True)
class Node:
    """One thing. `group`: what it is a column of (`source/sales`, `view/price`), without a version.

    `active`: whether it is what is read now; an earlier version that a model learned from is not.
    """

    id: str
    kind: NodeKind
    name: str
    group: str
    active: bool = True
    detail: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Edge:
    """`target` came from `source`. `role`: how; `exact`: false where code could not be read and all columns count."""

    source: str
    target: str
    role: Role
    exact: bool = True


@dataclass(frozen=True)
class LineageGraph:
    """Nodes by id, and edges between them. It has no circles."""

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]

    @cached_property
    def _forward(self) -> dict[str, list[str]]:
        return _neighbours((e.source, e.target) for e in self.edges)

    @cached_property
    def _backward(self) -> dict[str, list[str]]:
        return _neighbours((e.target, e.source) for e in self.edges)

    def downstream(self, start: Collection[str]) -> list[Node]:
        """What came from `start`, nearest kinds first."""
        return self._reached(start, self._forward)

    def upstream(self, start: Collection[str]) -> list[Node]:
        """What `start` came from."""
        return self._reached(start, self._backward)

    def around(self, start: Collection[str]) -> LineageGraph:
        """`start` with all that is upstream and downstream of it, and the edges between those."""
        chosen = {n.id for n in (*self.upstream(start), *self.downstream(start))} | set(start)
        nodes = {id: node for id, node in self.nodes.items() if id in chosen}
        return LineageGraph(nodes, tuple(e for e in self.edges if e.source in chosen and e.target in chosen))

    def find(self, reference: str) -> list[str]:
        """Ids that a reference means.

        Args:
            reference: an id (`source/sales.amount`, `model/shop@3`), a whole thing (`source/sales`, `view/price`,
                `entity/shop`), a feature (`price:price`, `price@v1:price`), or the bare name of a view, service,
                source, entity or model. Without a version all versions are meant: a model that learned from an
                earlier one is served the active one.

        Raises:
            UnknownNameError: nothing is called so, or several kinds of things are.
        """
        if reference in self.nodes:
            return [reference]
        found = {
            kind: ids for kind in (*ORDER, "entity") if (ids := [n.id for n in self._named(kind, reference)])
        }
        if len(found) == 1:
            return next(iter(found.values()))
        if not found:
            raise UnknownNameError(
                f"nothing in the lineage is called {reference!r}. Expected e.g. 'price', 'price:price', "
                f"'source/sales.amount', 'service/buying' or 'model/shop@3'; there are: {', '.join(self._groups())}.",
                reference=reference,
            )
        several = ", ".join(f"{kind}/{reference}" for kind in found)
        raise UnknownNameError(f"{reference!r} means several things; say which: {several}.", reference=reference)

    def _named(self, kind: str, reference: str) -> list[Node]:
        prefix, separator, rest = reference.partition("/")
        if separator and prefix != kind:
            return []
        name = rest if separator else reference
        if kind == "entity":
            return [n for n in self.nodes.values() if name in n.detail.get("entities", ())]
        candidates = [n for n in self.nodes.values() if n.kind == kind]
        return (
            [n for n in candidates if n.group == f"{kind}/{name}"]
            or [n for n in candidates if _without_version(n) == name]
            or [n for n in candidates if name in (n.name, n.name.rpartition(":")[0])]
        )

    def _reached(self, start: Collection[str], neighbours: Mapping[str, list[str]]) -> list[Node]:
        reached: set[str] = set()
        waiting = list(start)
        while waiting:
            for id in neighbours.get(waiting.pop(), ()):
                if id not in reached:
                    reached.add(id)
                    waiting.append(id)
        return sorted(
            (self.nodes[id] for id in reached - set(start)), key=lambda n: (ORDER.index(n.kind), n.name)
        )

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(n.group for n in self.nodes.values()))


def _without_version(node: Node) -> str:
    """`price@v1:price` as `price:price`."""
    before, _, after = node.name.partition("@v")
    _, separator, feature = after.partition(":")
    return f"{before}{separator}{feature}"


def _neighbours(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one, other in pairs:
        found.setdefault(one, []).append(other)
    return found

