"""A lineage graph as inline SVG: one column for each kind, left to right, drawn in the page's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.features.lineage_graph import ORDER, LineageGraph, Node

COLUMN_WIDTH, BOX_WIDTH, ROW_HEIGHT, BOX_HEIGHT, TOP = 248, 200, 30, 22, 34
MAX_CHARACTERS = 26
TITLES = {
    "source": "source columns", "request": "request", "view": "features", "on_demand_view": "on demand",
    "service": "services", "training_set": "training sets", "model": "models", "predictions": "prediction log",
}


def lineage_svg(graph: LineageGraph, group: str) -> str:
    """The graph as an `<svg>` element; boxes of `group` (`view/price`) stand out.

    Request fields stand among the source columns. Each box has its full name as a tooltip.
    """
    columns = _columns(graph)
    place = {
        node.id: (x * COLUMN_WIDTH, TOP + y * ROW_HEIGHT)
        for x, (_, nodes) in enumerate(columns)
        for y, node in enumerate(nodes)
    }
    width = max(1, len(columns)) * COLUMN_WIDTH - (COLUMN_WIDTH - BOX_WIDTH)
    height = TOP + max((len(nodes) for _, nodes in columns), default=1) * ROW_HEIGHT
    parts = [
        f'<text class="title" x="{x * COLUMN_WIDTH}" y="14">{escape(title)}</text>'
        for x, (title, _) in enumerate(columns)
    ]
    drawn: set[tuple[str, str]] = set()
    for edge in sorted(graph.edges, key=lambda e: e.role != "value"):
        if (edge.source, edge.target) in drawn:
            continue  # a column may count twice, as value and as key: the first says more
        drawn.add((edge.source, edge.target))
        (left, top), (x2, bottom) = place[edge.source], place[edge.target]
        x1, y1, y2 = left + BOX_WIDTH, top + BOX_HEIGHT / 2, bottom + BOX_HEIGHT / 2
        middle = (x1 + x2) / 2
        quiet = " quiet" if edge.role in ("key", "time", "rows") else ""
        parts.append(
            f'<path class="edge{quiet}" d="M{x1} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2} {y2:g}">'
            f"<title>{escape(f'{edge.source} → {edge.target} ({edge.role})')}</title></path>"
        )
    parts += [_box(node, *place[node.id], own=node.group == group) for _, nodes in columns for node in nodes]
    return (
        f'<svg class="lineage" role="img" aria-label="Lineage of {escape(group)}" viewBox="0 0 {width} {height}" '
        f'style="min-width:{width * 0.72:.0f}px;max-width:{width}px">{"".join(parts)}</svg>'
    )


def _columns(graph: LineageGraph) -> list[tuple[str, Sequence[Node]]]:
    kinds = [("source", "request"), *((kind,) for kind in ORDER if kind not in ("source", "request"))]
    columns: list[tuple[str, Sequence[Node]]] = []
    for several in kinds:
        nodes = sorted((n for n in graph.nodes.values() if n.kind in several), key=lambda n: (n.kind, n.name))
        if nodes:
            columns.append((TITLES[several[0]], nodes))
    return columns


def _box(node: Node, x: int, y: int, own: bool) -> str:
    kinds = " ".join(filter(None, [node.kind, "own" if own else "", "" if node.active else "earlier"]))
    detail = "".join(f"\n{k}: {v}" for k, v in node.detail.items() if v not in (None, "", (), False))
    return (
        f'<g class="box {kinds}"><title>{escape(node.id + detail)}</title>'
        f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="4"/>'
        f'<text x="{x + 8}" y="{y + 15}">{escape(_label(node, own))}</text></g>'
    )


def _label(node: Node, own: bool) -> str:
    """What fits into a box: a feature's view where there is room, its version where it is an earlier one."""
    label = node.name[:12] if node.kind == "training_set" else node.name
    if node.kind in ("view", "on_demand_view"):
        view, _, rest = node.name.partition("@v")
        version, _, feature = rest.partition(":")
        label = feature if node.active else f"{feature} (v{version})"
        if not own and len(view) + 1 + len(label) <= MAX_CHARACTERS:
            label = f"{view}:{label}"
    return label if len(label) <= MAX_CHARACTERS else f"{label[:MAX_CHARACTERS - 1]}…"
