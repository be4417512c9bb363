"""Online features: one round trip for all views of a request, the same arithmetic as in training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from app.errors import FeatureStoreError
from app.features.arrow_types import ARROW_TYPES, rows_to_table
from app.features.on_demand import compute, request_fields
from app.features.online import OnlineStore
from app.features.online.answers import window_values
from app.features.online.folded_state import StateReader
from app.features.online.latest_state import newest
from app.features.online_keys import AskedKeys, asked_keys
from app.features.push import EPOCH, ONLINE_UNITS, micros_of
from app.features.references import ReadPlan, ViewRead
from app.features.view_rows import key_fields
from app.features.window_layout import SLACK_US, WindowLayout, micros
from app.spec import Project
from app.spec.features import Aggregation, Field

Columns = list[Sequence[Any]]
Rows = Sequence[Mapping[str, Any]]


def online_table(project: str, read: ViewRead) -> str:
    """Name of a view version in the online store."""
    return f"{project}.{read.view.name}.v{read.version}"


class OnlineReader:
    """Answers requests of one plan: what can be prepared is prepared once."""

    def __init__(self, project: Project, plan: ReadPlan) -> None:
        self._project = project
        self._plan = plan
        self._reads = [_PreparedRead.of(project.name, read) for read in plan.joined]
        self._names = [name for _, name in plan.outputs]

    def read(self, store: OnlineStore, entity_rows: Rows, at: datetime) -> list[dict[str, Any]]:
        """For each row what was sent, with the features added.

        Raises:
            MissingColumnError: a row lacks a join key.
            SchemaMismatchError: a join key of another type than declared.
            FeatureStoreError: windows of a moment too long ago.
        """
        at_us = micros_of(at)
        keys: dict[tuple[tuple[str, Field], ...], AskedKeys] = {}
        for read in self._reads:
            if read.keys not in keys:
                keys[read.keys] = asked_keys(read.keys, read.view_name, entity_rows)
        states = store.states([(read.table, keys[read.keys].distinct) for read in self._reads])
        joined: dict[tuple[str, str], Sequence[Any]] = {}
        for read, found in zip(self._reads, states, strict=True):
            asked = keys[read.keys]
            columns = (_windows if read.aggregations else _latest)(store, read, asked, found, at_us)
            joined.update(zip(read.pairs, columns, strict=True))
        if self._plan.on_demand:
            joined.update(_on_demand(self._project, self._plan, entity_rows, at, joined))
        columns = [joined[pair] for pair, _ in self._plan.outputs]
        if not columns:
            return [dict(row) for row in entity_rows]
        return _with_columns(entity_rows, self._names, columns)


@dataclass(frozen=True)
class _PreparedRead:
    """One view of a plan, ready to be read.

    `keys`: the rows' column and the type of each join key. `places`: positions of the features among the view's fields.
    `encoded`: types of those fields that JSON does not have.
    """

    table: str
    view_name: str
    keys: tuple[tuple[str, Field], ...]
    pairs: tuple[tuple[str, str], ...]
    num_fields: int
    places: tuple[int, ...]
    encoded: Mapping[int, str]
    ttl_us: int | None
    aggregations: tuple[Aggregation, ...]
    layout: WindowLayout | None

    @classmethod
    def of(cls, project: str, read: ViewRead) -> _PreparedRead:
        view = read.view
        names = [f.name for f in view.fields]
        aggregations = {a.name: a for a in view.aggregations}
        return cls(
            table=online_table(project, read),
            view_name=view.name,
            keys=tuple(zip(read.key_columns, key_fields(view), strict=True)),
            pairs=tuple((read.label, f.name) for f in read.features),
            num_fields=len(names),
            places=() if aggregations else tuple(names.index(f.name) for f in read.features),
            encoded={i: f.dtype for i, f in enumerate(view.fields) if f.dtype in ONLINE_UNITS},
            ttl_us=None if view.ttl is None else micros(view.ttl),
            aggregations=tuple(aggregations[f.name] for f in read.features) if aggregations else (),
            layout=WindowLayout.of(view.aggregations) if aggregations else None,
        )


def _with_columns(rows: Rows, names: Sequence[str], columns: Columns) -> list[dict[str, Any]]:
    """Each row with a value of each column. A copy of a dict that has all keys already need not grow."""
    answers = []
    blank: dict[str, Any] = {}
    given: Mapping[str, Any] | None = None
    for row, values in zip(rows, zip(*columns, strict=True), strict=True):
        if given is None or row.keys() != given.keys():
            given, blank = row, dict.fromkeys([*row, *names])
        answer = blank.copy()
        answer.update(row)
        answer.update(zip(names, values, strict=True))
        answers.append(answer)
    return answers


def _latest(
    store: OnlineStore, read: _PreparedRead, asked: AskedKeys, states: Sequence[bytes | None], at_us: int
) -> Columns:
    oldest_us = None if read.ttl_us is None else at_us - read.ttl_us
    texts = []
    for state in states:
        found = None if state is None else newest(state, at_us)
        known = found is not None and (oldest_us is None or found[0] >= oldest_us)
        texts.append(found[1] if known and found is not None else b"null")
    nothing = [None] * read.num_fields
    records = [nothing if values is None else values for values in _parsed(b"[" + b",".join(texts) + b"]")]
    by_field = list(zip(*records, strict=True)) or [()] * read.num_fields  # nobody is asked for
    return [
        asked.spread([_moment(n, read.encoded[i]) for n in by_field[i]] if i in read.encoded else by_field[i])
        for i in read.places
    ]


def _parsed(text: bytes) -> Any:
    """JSON, also with the numbers that are none, which only Python's parser takes."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def _moment(number: int | None, dtype: str) -> datetime | date | None:
    if number is None:
        return None
    return EPOCH + timedelta(microseconds=number) if dtype == "timestamp" else EPOCH.date() + timedelta(days=number)


def _windows(
    store: OnlineStore, read: _PreparedRead, asked: AskedKeys, states: Sequence[bytes | None], at_us: int
) -> Columns:
    assert read.layout is not None
    reader = StateReader(read.layout, states)
    unknown: list[int] = np.flatnonzero(reader.newest_us > at_us + SLACK_US).tolist()
    if unknown and micros_of(datetime.now(UTC)) - at_us > SLACK_US:
        raise FeatureStoreError(
            f"feature view {read.view_name!r} cannot tell its windows of {EPOCH + timedelta(microseconds=at_us)} for "
            f"{len(unknown)} of {len(states)} entities: the online store keeps what is needed for moments up to "
            f"{SLACK_US // 3_600_000_000} hours before an entity's newest row. Ask for a later moment, or read with "
            "get_historical_features.", view=read.view_name, rows=len(unknown),
        )
    found = window_values(store, read.table, reader, read.aggregations, asked.distinct, at_us)
    columns = []
    for _, name in read.pairs:
        values = found[name]
        plain: list[Any] = values.tolist()
        if values.dtype.kind == "f" and np.isnan(values).any():
            plain = [None if v != v else v for v in plain]
        for place in unknown:  # rows were announced for a time so far ahead that those of now are gone
            plain[place] = None
        columns.append(asked.spread(plain))
    return columns


def _on_demand(
    project: Project, plan: ReadPlan, entity_rows: Rows, at: datetime,
    joined: Mapping[tuple[str, str], Sequence[Any]],
) -> dict[tuple[str, str], list[Any]]:
    types = {(r.label, f.name): f for r in plan.joined for f in r.features}
    needed = {pair for inputs in plan.on_demand_inputs.values() for pair in inputs.values() if pair is not None}
    columns = {pair: pa.array(joined[pair], ARROW_TYPES[types[pair].dtype]) for pair in needed}
    fields = request_fields(project)
    given: dict[str, pa.Array | pa.ChunkedArray] = {}
    for name in {n for inputs in plan.on_demand_inputs.values() for n, pair in inputs.items() if pair is None}:
        values = [at if name == "event_timestamp" else row.get(name) for row in entity_rows]
        typed = rows_to_table([{name: v} for v in values], [fields[name]], "request")[name] if name in fields else None
        given[name] = pa.array(values) if typed is None else typed
    return {pair: column.to_pylist() for pair, column in compute(project, plan, given, columns).items()}
