"""`millrace features …` on definitions; the commands on rows are in `feature_rows`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.syntax import Syntax
from rich.table import Table

from app.cli.feature_output import console, print_json, print_lineage, print_record, table_of
from app.cli.feature_rows import rows
from app.cli.project_option import FLIGHTS, JsonOption, ProjectOption
from app.console.feature_pages import write_feature_pages
from app.errors import UnknownNameError
from app.features.declared import Kind
from app.features.store import FeatureStore
from app.foundation.telemetry import Progress

features = typer.Typer(no_args_is_help=True, help="The feature store: definitions, rows, lineage, access.")
features.registered_commands += rows.registered_commands
KindOption = Annotated[str, typer.Option("--kind", help="view, on_demand_view, service or entity")]


@features.command()
def plan(project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Shows what `apply` would change and who is affected."""
    found = FeatureStore.open(project).plan()
    if as_json:
        return print_json({"changes": list(found), "held": found.held, "revision": found.revision})
    for change in found:
        console.print(str(change), markup=False, highlight=False, soft_wrap=True)
    for name, version in found.held.items():
        console.print(f"{name}: stays at version {version}, to which it was rolled back", markup=False)
    if not found:
        console.print("nothing to apply")


@features.command()
def apply(project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Registers the project's definitions; a change of meaning makes a new version."""
    done = FeatureStore.open(project).apply()
    if as_json:
        return print_json(done)
    for change in done:
        console.print(str(change), markup=False, highlight=False, soft_wrap=True)
    if not done:
        console.print("nothing to apply")


@features.command("list")
def list_all(project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Lists entities, views, on-demand views and services with version and owner."""
    store = FeatureStore.open(project)
    found = [store.describe(name, kind) for kind, name in store.names()]
    if as_json:
        return print_json(found)
    table = Table("kind", "name", "version", "owner", "description", title=project, title_justify="left")
    for d in found:
        version = "deleted" if d["version"] is None and d["versions"] else d["version"] or "not registered"
        table.add_row(d["kind"], d[d["kind"]], str(version), d["owner"], d["description"])
    console.print(table)


@features.command()
def describe(name: str, project: ProjectOption = FLIGHTS, kind: KindOption = "", as_json: JsonOption = False) -> None:
    """Shows one definition: owner, fields, versions, users, how far it is materialised."""
    found = FeatureStore.open(project).describe(name, _kind(kind))
    print_json(found) if as_json else print_record(found)


@features.command()
def versions(name: str, project: ProjectOption = FLIGHTS, kind: KindOption = "", as_json: JsonOption = False) -> None:
    """Lists the versions of a definition."""
    found = FeatureStore.open(project).versions(name, _kind(kind))
    if as_json:
        return print_json(found)
    shown = [{k: v for k, v in version.items() if k != "definition"} for version in found]
    console.print(table_of(shown, title=f"versions of {name}"))


@features.command()
def diff(
    name: str, before: int, after: int, project: ProjectOption = FLIGHTS, kind: KindOption = "",
    as_json: JsonOption = False,
) -> None:
    """Shows what version AFTER says differently from version BEFORE."""
    found = FeatureStore.open(project).diff(name, before, after, _kind(kind))
    if as_json:
        return print_json(found)
    for difference in found:
        if difference.is_code:
            console.print(f"{difference.part}:")
            console.print(Syntax(difference.unified(), "diff", background_color="default"))
        else:
            console.print(str(difference), markup=False, highlight=False)
    if not found:
        console.print("the two mean the same")


@features.command()
def rollback(view: str, version: int, project: ProjectOption = FLIGHTS) -> None:
    """Makes an earlier version of a view the one that is read; the online store is filled first."""
    done = FeatureStore.open(project).rollback(view, version)
    until = "no rows to bring online" if done.until is None else f"online up to {done.until:%Y-%m-%d %H:%M} UTC"
    console.print(f"{view}: version {done.from_version} → {done.version}; {done.online_rows:,} rows loaded, {until}")
    console.print("Stores that are open elsewhere keep their version until they are refreshed or restarted.")


@features.command()
def lineage(reference: str, project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Shows what REFERENCE came from and what came from it: price, price:price, source/sales.amount, model/shop@3."""
    graph = FeatureStore.open(project).lineage(reference)
    if as_json:
        return print_json({"nodes": list(graph.nodes.values()), "edges": graph.edges})
    print_lineage(graph, graph.find(reference))


@features.command()
def impact(reference: str, project: ProjectOption = FLIGHTS, as_json: JsonOption = False) -> None:
    """Shows which views, services, models and prediction logs a change of REFERENCE affects."""
    found = FeatureStore.open(project).impact(reference)
    print_json(found) if as_json else print_record(vars(found))


@features.command()
def delete(
    name: str, project: ProjectOption = FLIGHTS, kind: KindOption = "",
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Takes a definition that nothing uses out of the registry; its rows stay."""
    store = FeatureStore.open(project)
    if not yes:
        typer.confirm(f"Delete {name} from the registry?", abort=True)
    store.delete(name, _kind(kind))
    console.print(f"{name}: deleted")


@features.command()
def audit(
    project: ProjectOption = FLIGHTS, limit: Annotated[int, typer.Option(help="how many, newest first")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Lists who changed the registry and who was denied what."""
    found = FeatureStore.open(project).audit(limit)
    if as_json:
        return print_json(found)
    shown = [{k: e[k] for k in ("at", "principal", "what", "subject", "reason")} for e in found]
    console.print(table_of(shown, title="audit trail"))


@features.command()
def docs(
    out: Annotated[Path, typer.Option(help="folder for the pages")], project: ProjectOption = FLIGHTS
) -> None:
    """Writes a page for each view and an index: self-contained HTML."""
    progress = Progress()
    store = FeatureStore.open(project)
    with progress.step("Pages", total=len(store.project.all_views)) as step:
        index = write_feature_pages(store, out, note=lambda name: step.advance(1, name))
    console.print(f"pages: {index}", soft_wrap=True)


def _kind(text: str) -> Kind | None:
    if not text:
        return None
    for kind in get_args(Kind):
        if kind == text:
            return kind  # type: ignore[no-any-return]
    raise UnknownNameError(f"--kind is {text!r}; expected one of {', '.join(get_args(Kind))}.", kind=text)
