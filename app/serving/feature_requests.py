"""Bodies of `/v1/features/online` and `/v1/features/push`, and the answer's JSON. Pure.

Online: `{"entities": [{key: value}], "features": ["view:feature"], "at": "...", "full_feature_names": false}`; without
`features` those of the model are given, without `at` those of now. One request reads any number of views. Windows of a
moment more than a day before an entity's newest row are refused (409); other views have null for what was before the
last eight values.

Push: `{"source": name, "rows": [...]}` feeds every view on a source, `{"view": name, ...}` one view; `to` is `online`
(default), `offline` or `online_and_offline`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, cast

from app.errors import RequestError, UnknownNameError
from app.features.push import PushResult
from app.features.view_rows import key_fields
from app.serving.request import MAX_ROWS, check_fields, check_text
from app.serving.schema import Row, check_list, check_moment, check_row, check_source_rows, kind_of
from app.spec.features import DType, FeatureService, FeatureView
from app.spec.project import Project
from app.spec.references import FeatureReference

TARGETS = ("online", "offline", "online_and_offline")


@dataclass(frozen=True)
class OnlineRequest:
    """What is asked of which entities. `at`: the moment, `None` for now."""

    features: FeatureService | tuple[str, ...]
    rows: tuple[Row, ...]
    at: datetime | None
    full_feature_names: bool


@dataclass(frozen=True)
class PushRequest:
    """Rows of a source for all its views, or for `view` alone."""

    source: str
    view: str | None
    rows: tuple[Row, ...]
    to: Literal["online", "offline", "online_and_offline"]


def parse_online(body: Mapping[str, Any], project: Project) -> OnlineRequest:
    """Checks a request for features.

    Raises:
        RequestError: names the field that must change.
        UnknownNameError: a view or feature that does not exist.
    """
    check_fields(body, {"features", "entities", "at", "full_feature_names"})
    full = body.get("full_feature_names", False)
    if not isinstance(full, bool):
        raise RequestError(f"full_feature_names is {kind_of(full)}; expected a boolean.", field="full_feature_names")
    wanted = body.get("features")
    features = project.service if wanted is None else _features(wanted, project)
    written = features.features if isinstance(features, FeatureService) else features
    columns = _columns(project, map(FeatureReference.parse, written))
    entities = check_list(body.get("entities"), "entities", MAX_ROWS)
    rows = [check_row(row, columns, f"entities[{i}]", frozenset()) for i, row in enumerate(entities)]
    at = None if body.get("at") is None else check_moment(body["at"], "at")
    return OnlineRequest(features, tuple(rows), at, full)


def parse_push(body: Mapping[str, Any], project: Project) -> PushRequest:
    """Checks pushed rows; those that break an expectation are the store's business.

    Raises:
        RequestError: names the field that must change.
        UnknownNameError: a source or view that does not exist.
    """
    check_fields(body, {"source", "view", "rows", "to"})
    if ("source" in body) == ("view" in body):
        raise RequestError("send either 'source' or 'view', one of them.", field="source")
    to = body.get("to", "online")
    if to not in TARGETS:
        raise RequestError(f"to is {to!r}; expected one of {', '.join(TARGETS)}.", field="to")
    view = None
    if "view" in body:
        view = _stored_view(project, check_text(body["view"], "view"), "view")
        source = view.source
    else:
        known = {s.name: s for s in project.sources}
        name = check_text(body["source"], "source")
        if name not in known:
            raise UnknownNameError(
                f"there is no source {name!r}; the project has: {', '.join(known)}.", field="source", source=name
            )
        source = known[name]
    rows = check_source_rows(body.get("rows"), source)
    return PushRequest(source.name, None if view is None else view.name, tuple(rows), cast(Any, to))


def online_answer(found: Sequence[Row]) -> bytes:
    """`{"features": [...]}`: moments in ISO 8601; an infinite number, which JSON does not have, is null."""
    return json.dumps({"features": [_finite(row) for row in found]}, default=_text, allow_nan=False).encode()


def push_answer(result: PushResult) -> dict[str, Any]:
    """How many rows were taken, and why others were not."""
    return {"accepted": result.accepted, "refused": len(result.refused), "reasons": sorted(set(result.refused))}


def _features(wanted: object, project: Project) -> tuple[str, ...]:
    references = []
    for number, text in enumerate(check_list(wanted, "features", 10_000)):
        field = f"features[{number}]"
        if not isinstance(text, str):
            raise RequestError(f"{field} is {kind_of(text)}; expected text such as 'view:feature'.", field=field)
        try:
            reference = FeatureReference.parse(text)
        except UnknownNameError as error:
            raise RequestError(f"{field}: {error.message}", field=field) from error
        if reference.view not in {view.name for view in project.all_views}:
            known = ", ".join(view.name for view in project.all_views)
            raise UnknownNameError(
                f"{field}: there is no feature view {reference.view!r}; the project has: {known}.", field=field
            )
        references.append(text)
    return tuple(references)


def _columns(project: Project, references: Any) -> dict[str, DType]:
    """What an entity row may have: keys of the project's views, also under the names asked for, and request fields."""
    cases = project.cases
    columns: dict[str, DType] = {f.name: f.dtype for f in cases.source.fields if f.name == cases.key}
    columns.update({f.name: f.dtype for view in project.views for f in key_fields(view)})
    columns.update({f.name: f.dtype for f in cases.request_fields})
    for reference in references:
        if reference.join_key_map:
            types = {f.name: f.dtype for f in key_fields(_stored_view(project, reference.view, "features"))}
            columns.update({column: types[key] for key, column in reference.join_key_map if key in types})
    return columns


def _stored_view(project: Project, name: str, field: str) -> FeatureView:
    view = next((v for v in project.views if v.name == name), None)
    if view is None:
        known = ", ".join(v.name for v in project.views)
        raise UnknownNameError(
            f"there is no feature view {name!r} with rows of its own; the project has: {known}.", field=field, view=name
        )
    return view


def _finite(row: Row) -> Row:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def _text(value: object) -> str:
    assert isinstance(value, date), f"{type(value).__name__} has no JSON form"  # a datetime is a date too
    return value.isoformat()
