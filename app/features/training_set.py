"""Cases of a stretch of time with their features and labels: what a model learns from and is judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

from app.clock import as_utc
from app.errors import FeatureStoreError
from app.features.arrow_types import to_plain_pandas
from app.features.content_hash import content_hash
from app.features.known_rows import newest_rows
from app.features.point_in_time import EVENT
from app.features.raw_tables import raw_table
from app.features.sources import available_column
from app.features.store import FeatureStore
from app.foundation.lake import Lake
from app.spec import Project
from app.spec.features import OnDemandFeatureView

LABEL, LABEL_AVAILABLE = "label", "label_available_timestamp"


@dataclass(frozen=True)
class TrainingSet:
    """Labelled rows in time order.

    `frame`: the case's key, its prediction timestamp, the model's inputs, `label` and when the label became available.
    `feature_names`: the inputs, request fields first. `manifest`: snapshots, versions, counts and the rows' hash.
    """

    frame: pd.DataFrame
    feature_names: tuple[str, ...]
    categorical: tuple[str, ...]
    manifest: dict[str, Any]


def training_set(
    project: Project, store: FeatureStore, lake: Lake, start: datetime, end: datetime,
    available_by: datetime | None = None, pinned: Mapping[str, Any] | None = None,
) -> TrainingSet:
    """Cases asked in `[start, end)` whose label was available by `available_by` (default: ever).

    `pinned`: the manifest of an earlier training set, whose snapshots of cases, labels and views are read again. What a
    training set was made of is tagged, so that it is never forgotten.

    Raises:
        UnknownNameError: cases, labels or views that were not ingested or materialised.
        FeatureStoreError: two inputs of one name.
        AccessDeniedError: the principal may not read the cases, the labels or a view.
    """
    store.require_source_readable(project.cases.source, _case_columns(project))
    store.require_source_readable(project.label.source, [project.cases.key, project.label.column])
    cases, cases_snapshot = _cases(project, lake, start, end, _pinned(pinned, "cases"))
    labels, labels_snapshot = _labels(project, lake, _pinned(pinned, "labels"))
    if available_by is not None:
        labels = labels.filter(pl.col(LABEL_AVAILABLE) <= available_by)
    key, asked = project.cases.key, project.cases.prediction_timestamp
    spine = (
        cases.join(labels, on=key, how="inner", maintain_order="left")
        .sort(asked, key)
        .with_columns(pl.col(asked).alias(EVENT))
    )
    names = feature_names(project)
    held_back = spine.select(key, asked, LABEL, LABEL_AVAILABLE)
    sent = spine.drop([c for c in (asked, LABEL, LABEL_AVAILABLE) if c != EVENT])
    found = store.get_historical_features(sent.to_arrow(), project.service, pinned=pinned)
    table = _arranged(held_back.to_arrow(), found.table, names)
    manifest = {
        **found.manifest,
        "cases": {"table": raw_table(project.name, project.cases.source), "snapshot_id": cases_snapshot},
        "labels": {"table": raw_table(project.name, project.label.source), "snapshot_id": labels_snapshot},
        "start": start.isoformat(), "end": end.isoformat(),
        "available_by": None if available_by is None else available_by.isoformat(),
        "cases_rows": cases.height, "rows": table.num_rows, "row_hash": content_hash([table]),
    }
    if pinned is None:  # else they are tagged already
        for part in (manifest["cases"], manifest["labels"], *found.manifest["views"].values()):
            if part["snapshot_id"] is not None:
                lake.pin(part["table"], part["snapshot_id"])
    categorical = tuple(name for name in project.model.categorical if name in names)
    return TrainingSet(to_plain_pandas(table), names, categorical, manifest)


def feature_names(project: Project) -> tuple[str, ...]:
    """The model's inputs: request fields, then the service's features.

    Raises:
        FeatureStoreError: two inputs of one name.
    """
    names = [f.name for f in project.cases.request_fields] + [name for _, name in project.expand(project.service)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FeatureStoreError(
            f"project {project.name!r}: the model would get two inputs named {', '.join(twice)}; rename a request "
            "field or feature, or leave one out of the service.", features=twice,
        )
    return tuple(names)


def _pinned(manifest: Mapping[str, Any] | None, part: str) -> int | None:
    return None if manifest is None else manifest[part]["snapshot_id"]


def _cases(
    project: Project, lake: Lake, start: datetime, end: datetime, pinned: int | None
) -> tuple[pl.DataFrame, int | None]:
    """The cases of a stretch, `_case_columns` of each."""
    cases = project.cases
    wanted = _case_columns(project)
    table = raw_table(project.name, cases.source)
    snapshot_id = lake.current_snapshot_id(table) if pinned is None else pinned
    asked = cases.prediction_timestamp
    identity = ["row_key", "created_timestamp"]
    first, last = as_utc(start).isoformat(), as_utc(end).isoformat()
    inside = f"{asked} >= '{first}' and {asked} < '{last}'"
    outside = f"{asked} < '{first}' or {asked} >= '{last}' or {asked} is null"
    rows, elsewhere = (
        pl.DataFrame(lake.read(table, columns=list(dict.fromkeys(c)), row_filter=condition, snapshot_id=snapshot_id))
        for c, condition in (([*wanted, *identity], inside), ([asked, *identity], outside))
    )
    return cases_inside(rows, elsewhere).select(list(dict.fromkeys(wanted))), snapshot_id


def _case_columns(project: Project) -> list[str]:
    """Key, moment, request fields and the join keys of the service's views."""
    cases = project.cases
    references = project.references(project.service)
    views = [project.view(name) for name in dict.fromkeys(r.view for r in references)]
    keys = {k for v in project.views for k in v.join_keys if _feeds_on_demand(v, views)}
    for reference in references:
        view, renamed = project.view(reference.view), dict(reference.join_key_map)
        if not isinstance(view, OnDemandFeatureView):
            keys.update(renamed.get(k, k) for k in view.join_keys)
    return [cases.key, cases.prediction_timestamp, *(f.name for f in cases.request_fields), *sorted(keys)]


def cases_inside(rows: pl.DataFrame, elsewhere: pl.DataFrame) -> pl.DataFrame:
    """The newest version of each case among `rows`, without those that a correction moved `elsewhere`.

    Of versions written at once the columns of `elsewhere` decide first, so that every stretch finds the same one.
    """
    moved = elsewhere.join(rows, on="row_key", how="semi")
    marked = pl.concat([rows.with_columns(__inside=True), moved.with_columns(__inside=False)], how="diagonal")
    return newest_rows(marked, elsewhere.columns).filter("__inside").drop("__inside")


def _feeds_on_demand(view: Any, views: list[Any]) -> bool:
    inputs = {name for v in views if isinstance(v, OnDemandFeatureView) for name in v.inputs}
    return any(f.name in inputs for f in view.feature_fields)


def _labels(project: Project, lake: Lake, pinned: int | None) -> tuple[pl.DataFrame, int | None]:
    """Key, label and when it became available; one row for each case, those without a label left out."""
    label, key = project.label, project.cases.key
    available = available_column(label.source)
    table = raw_table(project.name, label.source)
    snapshot_id = lake.current_snapshot_id(table) if pinned is None else pinned
    columns = list(dict.fromkeys([key, label.column, available, "row_key", "created_timestamp"]))
    rows = newest_rows(pl.DataFrame(lake.read(table, columns=columns, snapshot_id=snapshot_id)))
    labels = rows.select(key, pl.col(label.column).alias(LABEL), pl.col(available).alias(LABEL_AVAILABLE)).drop_nulls()
    if labels[key].is_duplicated().any():
        labels = labels.sort(LABEL_AVAILABLE).unique(key, keep="last", maintain_order=True)
    if labels[LABEL].dtype == pl.Boolean:
        labels = labels.with_columns(pl.col(LABEL).cast(pl.Int64))
    return labels, snapshot_id


def _arranged(held_back: pa.Table, found: pa.Table, names: tuple[str, ...]) -> pa.Table:
    key, asked, *label = held_back.column_names
    columns = {key: held_back[key], asked: held_back[asked]}
    columns.update({name: found[name] for name in names})
    columns.update({name: held_back[name] for name in label})
    return pa.table({name: _plain(column) for name, column in columns.items()})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    texts = (pa.types.is_large_string(column.type), pa.types.is_string_view(column.type))
    return column.cast(pa.string()) if any(texts) else column
