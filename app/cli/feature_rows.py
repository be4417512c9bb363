"""`millrace features …` on rows: backfill, push, historical and online reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pandas as pd
import pyarrow.parquet as pq
import typer
from rich.console import Console

from app.assembly.runtime import ray_runtime
from app.cli.feature_output import console, print_json, table_of
from app.cli.project_option import FLIGHTS, JsonOption, ProjectOption
from app.errors import DataError, UnknownNameError
from app.features.backfill import MaterializeResult
from app.features.quarantine import quarantine_counts
from app.features.store import FeatureStore
from app.foundation.telemetry import Progress
from app.settings import load_settings
from app.spec.features import FeatureService

rows = typer.Typer()
ViewsOption = Annotated[list[str] | None, typer.Option("--view", help="which views, again for each; default: all")]
FeaturesOption = Annotated[
    list[str] | None, typer.Option("--feature", help="view:feature, again for each; default: the project's service")
]
ServiceOption = Annotated[str, typer.Option("--service", help="a declared service instead of single features")]
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".parquet": pd.read_parquet,
    ".csv": pd.read_csv,
    ".jsonl": lambda path: pd.read_json(path, lines=True, convert_dates=False),
}


@rows.command()
def materialize(
    start: datetime, end: datetime, view: ViewsOption = None, project: ProjectOption = FLIGHTS,
    as_json: JsonOption = False,
) -> None:
    """Backfills what became available after START and by END (UTC). Repeated, it writes nothing."""
    _backfill(project, lambda store, note: store.materialize(start, end, view, note=note), as_json)


@rows.command("materialize-incremental")
def materialize_incremental(
    end: datetime, view: ViewsOption = None, project: ProjectOption = FLIGHTS, as_json: JsonOption = False
) -> None:
    """Backfills from where the last backfill ended, up to END (UTC), late rows included."""
    _backfill(project, lambda store, note: store.materialize_incremental(end, view, note=note), as_json)


@rows.command("load-online")
def load_online(
    until: datetime, view: ViewsOption = None, project: ProjectOption = FLIGHTS,
    replace: Annotated[bool, typer.Option(help="forget what the online store has, pushes included")] = False,
) -> None:
    """Brings what was available by UNTIL (UTC) into the online store, beside what was pushed to it."""
    store = FeatureStore.open(project)
    names = view or [v.name for v in store.project.views]
    with Progress().step("Load online", total=len(names)) as step:
        for name in names:
            (count,) = store.load_online(until, [name], replace).values()
            step.advance(1, f"{name}: {count:,} rows")


@rows.command()
def push(
    view: str, file: Annotated[Path, typer.Argument(help="rows of the view's source: .parquet, .csv or .jsonl")],
    to: Annotated[str, typer.Option(help="online, offline or online_and_offline")] = "online_and_offline",
    project: ProjectOption = FLIGHTS,
) -> None:
    """Adds the rows of a file to a view."""
    if to not in ("online", "offline", "online_and_offline"):
        raise UnknownNameError(f"--to is {to!r}; expected online, offline or online_and_offline.", to=to)
    target = cast(Literal["online", "offline", "online_and_offline"], to)
    result = FeatureStore.open(project).push(view, read_rows(file), to=target)
    console.print(f"{view}: {result.accepted:,} rows taken, {len(result.refused):,} refused")
    for reason in sorted(set(result.refused)):
        console.print(f"  refused: {reason}", markup=False)


@rows.command("get-historical")
def get_historical(
    entities: Annotated[Path, typer.Argument(help="join keys and event_timestamp: .parquet, .csv or .jsonl")],
    out: Annotated[Path, typer.Option(help="parquet file to write")],
    feature: FeaturesOption = None, service: ServiceOption = "", project: ProjectOption = FLIGHTS,
    full_feature_names: Annotated[bool, typer.Option(help="name columns view__feature")] = False,
    as_of: Annotated[datetime | None, typer.Option(help="only what was written by then exists (UTC)")] = None,
) -> None:
    """Joins features to the rows of a file as of each row's moment, and writes them with a manifest beside them."""
    store = FeatureStore.open(project)
    spine = read_rows(entities)
    with Progress().step("Join", total=1) as step:
        found = store.get_historical_features(spine, _asked(store, feature, service), full_feature_names, as_of)
        step.advance(1, f"{found.table.num_rows:,} rows, {found.table.num_columns} columns")
    unfinished = out.with_name(f"{out.name}.tmp")
    pq.write_table(found.table, unfinished)
    unfinished.replace(out)
    manifest = out.with_suffix(".manifest.json")
    manifest.write_text(json.dumps(found.manifest, indent=2, default=str))
    console.print(f"rows: {out}\nmanifest: {manifest}", soft_wrap=True)


@rows.command("get-online")
def get_online(
    entity: Annotated[list[str], typer.Argument(help="join keys as JSON, e.g. '{\"sku\": 1}'; again for each entity")],
    feature: FeaturesOption = None, service: ServiceOption = "",
    at: Annotated[datetime | None, typer.Option(help="the moment asked about (UTC); default: now")] = None,
    project: ProjectOption = FLIGHTS, as_json: JsonOption = False,
) -> None:
    """Shows what would be served for entities."""
    store = FeatureStore.open(project)
    found = store.get_online_features(_asked(store, feature, service), [_entity(text) for text in entity], at)
    print_json(found) if as_json else console.print(table_of(found, title="online features"))


@rows.command()
def sweep(
    project: ProjectOption = FLIGHTS,
    older_than_h: Annotated[float, typer.Option(help="age in hours; longer than any write takes")] = 72.0,
) -> None:
    """Deletes files that failed or killed writes left beside the project's tables."""
    for result in FeatureStore.open(project).sweep(timedelta(hours=older_than_h)):
        if result.files or result.too_young:
            swept = f"{result.files} files, {result.size_bytes:,} bytes"
            console.print(f"{result.table}: {swept} swept; {result.too_young} files too young", markup=False)


@rows.command()
def maintain(project: ProjectOption = FLIGHTS) -> None:
    """Puts small files of the store's tables together and forgets snapshots nothing refers to; no row is lost."""
    store = FeatureStore.open(project)
    for result in store.compact():
        files = f"{result.files_before} files before, {result.files_after} after"
        console.print(f"{result.table}: {files}; {result.rows:,} rows rewritten", markup=False)
    console.print(f"{store.forget_snapshots()} snapshots forgotten")


@rows.command()
def quarantine(
    source: Annotated[str, typer.Argument(help="a source's name (default: all)")] = "", project: ProjectOption = FLIGHTS
) -> None:
    """Counts rows that broke an expectation, by source, view and reason."""
    refused = FeatureStore.open(project).quarantine(source or None)
    for (of, view, reason), n in quarantine_counts(refused).items():
        console.print(f"{of}{f' in view {view}' if view else ''}: {n:,} × {reason}", markup=False, highlight=False)


def read_rows(path: Path) -> pd.DataFrame:
    """Rows of a file by the end of its name.

    Raises:
        DataError: no such file, or no kind of file that is read.
    """
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"{path} is none of {', '.join(READERS)}.", path=str(path))
    if not path.is_file():
        raise DataError(f"there is no file {path}.", path=str(path))
    try:
        return reader(path)
    except (ValueError, OSError) as error:  # pandas' and Arrow's parsers raise kinds of ValueError
        raise DataError(f"{path} cannot be read as {path.suffix[1:]}: {error}.", path=str(path)) from error


Backfill = Callable[[FeatureStore, Callable[[str], None]], list[MaterializeResult]]


def _backfill(project: str, run: Backfill, as_json: bool) -> None:
    store = FeatureStore.open(project)
    progress = Progress(Console(stderr=True) if as_json else None)
    with ray_runtime(load_settings()), progress.step("Materialize") as step:
        done = run(store, step.note)
    if as_json:
        return print_json(done)
    console.print(table_of([vars(result) for result in done], title="materialised"))


def _asked(store: FeatureStore, features: list[str] | None, service: str) -> list[str] | FeatureService:
    if features and service:
        raise UnknownNameError("give either --feature or --service, not both.")
    if features:
        return features
    if not service:
        return store.project.service
    for known in store.project.all_services:
        if known.name == service:
            return known
    names = ", ".join(s.name for s in store.project.all_services)
    raise UnknownNameError(f"project {store.project.name!r} has no service {service!r}; it has: {names}.")


def _entity(text: str) -> dict[str, Any]:
    try:
        keys = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"entity {text!r} is not JSON: {error}. Expected e.g. '{{\"sku\": 1}}'.") from error
    if not isinstance(keys, dict):
        raise DataError(f"entity {text!r} is no JSON object; expected e.g. '{{\"sku\": 1}}'.")
    return keys
