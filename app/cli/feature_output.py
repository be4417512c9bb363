"""How `millrace features …` shows what it found: tables and trees for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

if TYPE_CHECKING:
    from app.features.lineage_graph import LineageGraph  # with it come the libraries of the whole feature store

console = Console()


def print_json(value: Any) -> None:
    """One JSON document on standard output, moments in ISO 8601."""
    print(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def table_of(records: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A line for each record, a column for each of its keys."""
    names = list(dict.fromkeys(name for record in records for name in record))
    table = Table(*names, title=escape(title), title_justify="left")
    for record in records:
        table.add_row(*(_text(record.get(name)) for name in names))
    return table


def print_record(record: Mapping[str, Any]) -> None:
    """A line for each fact; mappings as lines of their own."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in record.items():
        if value is not None and value != "" and value != {} and value != []:
            table.add_row(f"[bold]{name}[/]", _text(value))
    console.print(table)


def print_lineage(graph: LineageGraph, start: Sequence[str]) -> None:
    """Two trees: where it comes from, and what comes from it. A branch shown before is not shown again."""
    for title, backward in (("comes from", True), ("is read by", False)):
        tree = Tree(f"[bold]{escape(', '.join(start)) if len(start) < 4 else f'{len(start)} features'}[/] {title}")
        seen: set[str] = set()
        for id in start:
            _branch(tree, graph, id, backward, seen)
        console.print(tree)


def _branch(tree: Tree, graph: LineageGraph, id: str, backward: bool, seen: set[str]) -> None:
    for edge in graph.edges:
        here, there = (edge.target, edge.source) if backward else (edge.source, edge.target)
        if here != id:
            continue
        how = "" if edge.role in ("part", "learned", "answered") else f" [dim]{edge.role}[/]"
        unsure = "" if edge.exact else " [dim](any column: its code cannot be read)[/]"
        again = " [dim]…[/]" if there in seen else ""
        below = tree.add(f"{escape(there)}{how}{unsure}{again}")
        if there not in seen:
            seen.add(there)
            _branch(below, graph, there, backward, seen)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, Mapping):
        return escape("\n".join(f"{k}: {_text(v)}" for k, v in value.items()))
    if isinstance(value, (list, tuple)):
        return escape(", ".join(map(_text, value)))
    return escape("" if value is None else str(value))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
