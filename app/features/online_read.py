"""Online features: one round trip for each view, the same arithmetic as in training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from app.errors import MissingColumnError, SchemaMismatchError
from app.features.arrow_types import ARROW_TYPES, rows_to_table
from app.features.keys import entity_key
from app.features.on_demand import compute, request_fields
from app.features.online import OnlineStore, WindowSpec
from app.features.push import EPOCH, ONLINE_UNITS, micros_of
from app.features.references import ReadPlan, ViewRead
from app.features.view_rows import key_fields
from app.features.windows import micros, window_features
from app.spec import Project
from app.spec.features import Field

Values = dict[str, list[Any]]


def online_table(project: str, read: ViewRead) -> str:
    """Name of a view version in the online store."""
    return f"{project}.{read.view.name}.v{read.version}"


def read_online(
    project: Project, store: OnlineStore, plan: ReadPlan, entity_rows: Sequence[Mapping[str, Any]], at: datetime
) -> list[dict[str, Any]]:
    """For each row what was sent, with the features added.

    Raises:
        MissingColumnError: a row lacks a join key.
        SchemaMismatchError: a join key of another type than declared.
    """
    at_us = micros_of(at)
    joined: dict[tuple[str, str], list[Any]] = {}
    for read in plan.joined:
        fields = key_fields(read.view)
        keys = [_key(read, fields, row) for row in entity_rows]
        table = online_table(project.name, read)
        reader = _windows if read.view.aggregations else _latest
        for name, values in reader(store, table, read, keys, at_us).items():
            joined[(read.label, name)] = values
    if plan.on_demand:
        joined.update(_on_demand(project, plan, entity_rows, at, joined))
    return [
        {**row, **{name: joined[pair][i] for pair, name in plan.outputs}} for i, row in enumerate(entity_rows)
    ]


def _key(read: ViewRead, fields: Sequence[Field], row: Mapping[str, Any]) -> str | None:
    parts = []
    for field, column in zip(fields, read.key_columns, strict=True):
        if column not in row:
            raise MissingColumnError(
                f"an entity row lacks the join key {column!r} of feature view {read.view.name!r}; it has: "
                f"{', '.join(row) or 'nothing'}.", column=column, view=read.view.name,
            )
        parts.append(_typed(row[column], field, read.view.name))
    return entity_key(parts)


def _typed(value: Any, field: Field, view: str) -> Any:
    """A key's value in its declared type, as `spine_keys` brings it in training."""
    if value is None or value != value:
        return None
    if field.dtype == "string" and isinstance(value, str):
        return value
    if field.dtype == "int64" and isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if field.dtype == "int64" and isinstance(value, float) and value.is_integer():
        return int(value)
    if field.dtype == "bool" and isinstance(value, bool):
        return str(value).lower()
    if field.dtype in ("timestamp", "date", "uuid"):
        column = rows_to_table([{field.name: value}], [field], f"join key of feature view {view!r}")[field.name]
        typed = column[0].as_py()
        return micros_of(typed) if field.dtype == "timestamp" else str(typed)
    raise SchemaMismatchError(
        f"join key {field.name!r} of feature view {view!r} is {value!r}; expected {field.dtype}.",
        column=field.name, view=view,
    )


def _latest(store: OnlineStore, table: str, read: ViewRead, keys: list[str | None], at_us: int) -> Values:
    found = store.get_latest(table, _distinct(keys), at_us)
    oldest = None if read.view.ttl is None else at_us - micros(read.view.ttl)
    names = [f.name for f in read.view.fields]
    decoded = {f.name: f.dtype for f in read.view.fields if f.dtype in ONLINE_UNITS}
    records: dict[str, dict[str, Any]] = {}
    for key, row in found.items():
        if oldest is None or row.event_us >= oldest:
            records[key] = dict(zip(names, json.loads(row.values), strict=True))
            for name, dtype in decoded.items():
                records[key][name] = _moment(records[key][name], dtype)
    nothing = dict.fromkeys(names)
    by_row = [nothing if key is None else records.get(key, nothing) for key in keys]
    return {f.name: [record[f.name] for record in by_row] for f in read.features}


def _moment(number: int | None, dtype: str) -> datetime | date | None:
    if number is None:
        return None
    return EPOCH + timedelta(microseconds=number) if dtype == "timestamp" else EPOCH.date() + timedelta(days=number)


def _windows(store: OnlineStore, table: str, read: ViewRead, keys: list[str | None], at_us: int) -> Values:
    distinct = _distinct(keys)
    place = {key: i for i, key in enumerate(distinct)}
    answer = store.get_windows(table, distinct, at_us, WindowSpec.of(read.view))
    names = {f.name for f in read.features}
    entity = np.arange(len(distinct))
    values = window_features(
        [a for a in read.view.aggregations if a.name in names], entity, np.full(len(distinct), at_us),
        answer.tiles_and_heads,
    )
    plain = {name: [None if v != v else v for v in column.tolist()] for name, column in values.items()}
    return {
        f.name: [None if key is None else plain[f.name][place[key]] for key in keys] for f in read.features
    }


def _distinct(keys: list[str | None]) -> list[str]:
    return [key for key in dict.fromkeys(keys) if key is not None]


def _on_demand(
    project: Project, plan: ReadPlan, entity_rows: Sequence[Mapping[str, Any]], at: datetime,
    joined: Mapping[tuple[str, str], list[Any]],
) -> dict[tuple[str, str], list[Any]]:
    types = {(r.label, f.name): f for r in plan.joined for f in r.features}
    columns = {pair: pa.array(values, ARROW_TYPES[types[pair].dtype]) for pair, values in joined.items()}
    fields = request_fields(project)
    given: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in {n for inputs in plan.on_demand_inputs.values() for n, pair in inputs.items() if pair is None}:
        values = [at if name == "event_timestamp" else row.get(name) for row in entity_rows]
        typed = rows_to_table([{name: v} for v in values], [fields[name]], "request")[name] if name in fields else None
        given[name] = pa.array(values) if typed is None else typed
    return {pair: column.to_pylist() for pair, column in compute(project, plan, given, columns).items()}
