"""What a project's requests look like, and the check of every value in them. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, TypeGuard
from uuid import UUID

from app.errors import RequestError
from app.features.view_rows import key_fields
from app.spec.features import DType, FeatureView, OnDemandFeatureView, Source
from app.spec.project import Project

Row = dict[str, Any]
MAX_SHOWN = 100


@dataclass(frozen=True)
class RequestSchema:
    """Columns of requests by name.

    `entity`: what an entity row must have; `key` is one of them. `features`: what a full feature row may have.
    """

    key: str
    entity: Mapping[str, DType]
    features: Mapping[str, DType]

    @classmethod
    def of(cls, project: Project) -> RequestSchema:
        """Derived from the cases, the join keys of the service's views and the views' features."""
        cases = project.cases
        declared = {field.name: field.dtype for field in cases.source.fields}
        entity: dict[str, DType] = {cases.key: declared[cases.key]}
        request = {field.name: field.dtype for field in cases.request_fields}
        features = dict(request)
        for reference in project.references(project.service):
            view = project.view(reference.view)
            fields = view.feature_fields if isinstance(view, FeatureView) else view.fields
            column = reference.column(reference.feature)
            features[column] = next(f.dtype for f in fields if f.name == reference.feature)
            if isinstance(view, FeatureView):
                renamed = dict(reference.join_key_map)
                for key in key_fields(view):
                    name = renamed.get(key.name, key.name)
                    entity[name] = declared.get(name, key.dtype)
        for view in _behind_on_demand(project, {*request, "event_timestamp", *entity}):
            for key in key_fields(view):
                entity.setdefault(key.name, declared.get(key.name, key.dtype))
        entity.update(request)
        return cls(cases.key, entity, features)


def _behind_on_demand(project: Project, given: set[str]) -> list[FeatureView]:
    """Views outside the service that give inputs to its on-demand views."""
    views = [project.view(name) for name in dict.fromkeys(r.view for r in project.references(project.service))]
    inputs = {name for view in views if isinstance(view, OnDemandFeatureView) for name in view.inputs} - given
    inputs -= {f.name for view in views if isinstance(view, FeatureView) for f in view.feature_fields}
    return [view for view in project.views if inputs & {f.name for f in view.feature_fields}]


def check_row(row: object, columns: Mapping[str, DType], where: str, required: frozenset[str]) -> Row:
    """The row with moments parsed; a null is allowed unless the caller forbids it later.

    Raises:
        RequestError: not an object, an unknown field, one that is missing, or a value of another type.
    """
    if not isinstance(row, dict):
        raise RequestError(f"{where} is {kind_of(row)}; expected an object.", where=where)
    for name in required:
        if name not in row:
            raise RequestError(f"{where} lacks field {name!r}; send null if it is not known.", where=where, field=name)
    checked: Row = {}
    for name, value in row.items():
        dtype = columns.get(name)
        if dtype is None:
            raise RequestError(
                f"{where} has an unknown field {shown(name)}; known: {', '.join(columns)}.", where=where, field=name
            )
        if dtype == "float64" and type(value) is float and math.isfinite(value):  # what most values are
            checked[name] = value
            continue
        good = None if value is None else _CHECKS[dtype](value)
        checked[name] = check_value(value, dtype, f"{where}.{name}") if good is None else good
    return checked


def check_value(value: object, dtype: DType, where: str) -> Any:
    """The value as its type; whole numbers are floats too, booleans are not numbers.

    Raises:
        RequestError: the value is of another type.
    """
    if value is None:
        return None
    checked = _CHECKS[dtype](value)
    if checked is None:
        found = f"{kind_of(value)} {shown(value)}"
        raise RequestError(f"{where} is {found}; expected {dtype}.", where=where, expected=dtype)
    return checked


def check_moment(value: object, where: str) -> datetime:
    """An ISO 8601 moment in UTC; without an offset it is UTC.

    Raises:
        RequestError: anything else.
    """
    moment = _moment(value)
    if moment is None:
        raise RequestError(
            f"{where} is {shown(value)}; expected an ISO 8601 time such as '2026-01-31T12:00:00Z'.", where=where
        )
    return moment


def check_source_rows(rows: object, source: Source) -> list[Row]:
    """Rows of a source as pushed: every declared field, moments parsed.

    Raises:
        RequestError: see `check_row`; also a row without its key or its times.
    """
    columns = {field.name: field.dtype for field in source.fields}
    times = [source.event_timestamp, *([source.available_timestamp] if source.available_timestamp else [])]
    checked = []
    for number, row in enumerate(check_list(rows, "rows")):
        where = f"rows[{number}]"
        values = check_row(row, columns, where, frozenset(columns))
        for name in (*source.key, *times):
            if values[name] is None:
                raise RequestError(f"{where}.{name} is null; a row needs its key and its times.", where=where)
        checked.append(values)
    return checked


def check_list(value: object, where: str, max_items: int = 100_000) -> list[Any]:
    """A list that is not empty.

    Raises:
        RequestError: no list, an empty one, or more than `max_items`.
    """
    if not isinstance(value, list):
        raise RequestError(f"{where} is {kind_of(value)}; expected a list.", where=where)
    if not 0 < len(value) <= max_items:
        raise RequestError(f"{where} has {len(value)} items; expected 1 to {max_items}.", where=where)
    return value


def shown(value: object) -> str:
    """A value as messages quote it: the beginning of what is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text that can be written as UTF-8: JSON can say half a surrogate pair, tables cannot.

    >>> is_text("é"), is_text("\\ud800")
    (True, False)
    """
    if not isinstance(value, str):
        return False
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def kind_of(value: object) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # no moment, or one whose offset leads out of the years 1 to 9999
        return None


def _int(value: object) -> int | None:
    fits = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if fits and isinstance(value, int) else None


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None


def _text(value: object) -> str | None:
    return value if is_text(value) else None


def _bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _date(value: object) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _uuid(value: object) -> str | None:
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _list_of(check: Callable[[object], Any]) -> Callable[[object], Any]:
    """A check for lists of what `check` takes; items may be null."""

    def checked(value: object) -> list[Any] | None:
        if not isinstance(value, list):
            return None
        items = [None if item is None else check(item) for item in value]
        fits = all(item is not None or given is None for item, given in zip(items, value, strict=True))
        return items if fits else None

    return checked


_CHECKS: dict[DType, Callable[[object], Any]] = {
    "int64": _int, "float64": _float, "string": _text, "bool": _bool, "timestamp": _moment,
    "date": _date, "uuid": _uuid,
    "list<int64>": _list_of(_int), "list<float64>": _list_of(_float), "list<string>": _list_of(_text),
    "list<bool>": _list_of(_bool),
}
