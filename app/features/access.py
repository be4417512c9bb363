"""Which rights a read or write of features needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from app.features.expectations import rule_texts
from app.features.raw_tables import CREATED, row_expectations
from app.features.references import ReadPlan
from app.features.registry_plan import Change
from app.features.view_rows import stored_fields
from app.foundation.access import AccessControl, redact
from app.foundation.access.redaction import HIDDEN
from app.spec import Project
from app.spec.features import FeatureView, Field, OnDemandFeatureView, Source
from app.spec.policies import AccessAction

PII_TAG = "pii"  # a view tagged `pii: true` is personal as a whole


def require_read(control: AccessControl, plan: ReadPlan) -> None:
    """Checks every view a read touches: those asked for, and those that only on-demand views read.

    Raises:
        AccessDeniedError: the principal may not read one of the views, or personal fields of it.
    """
    asked: list[tuple[FeatureView | OnDemandFeatureView, tuple[Field, ...]]] = [
        (read.view, read.features) for read in plan.joined
    ]
    outputs = {(label, feature) for (label, feature), _ in plan.outputs}
    for label, view in zip(plan.on_demand_inputs, plan.on_demand, strict=True):
        asked.append((view, tuple(f for f in view.fields if (label, f.name) in outputs)))
    for read_view, fields in asked:
        require(control, "read", read_view)
        personal = personal_fields(read_view, fields)
        if personal:
            require(control, "read_pii", read_view, personal)


def require(
    control: AccessControl, action: AccessAction, view: FeatureView | OnDemandFeatureView, fields: Iterable[str] = ()
) -> None:
    """Checks one action on one view.

    Raises:
        AccessDeniedError: the principal may not.
    """
    control.require(action, f"feature view {view.name!r}", view=view.name, tags=view.tags, fields=tuple(fields))


def require_ingest(control: AccessControl, source: Source) -> None:
    """Checks the ingest of a source, which no role for single views covers.

    Raises:
        AccessDeniedError: the principal may not.
    """
    control.require("materialize", f"source {source.name!r}", tags=source.tags)


def require_source(control: AccessControl, project: Project, source: Source, columns: Iterable[str]) -> None:
    """Checks a read of a source's own rows: the right to read the source, or every view that reads it.

    Raises:
        AccessDeniedError: the principal may not read it, or personal ones among the columns.
    """
    if not _may_read_source(control, project, source.name):
        control.require("read", f"source {source.name!r}", tags=source.tags)
    personal = tuple(f.name for f in source.fields if f.pii and f.name in set(columns))
    if personal:
        control.require("read_pii", f"source {source.name!r}", tags=source.tags, fields=personal)


def require_changes(control: AccessControl, project: Project, changes: Iterable[Change]) -> None:
    """Checks the right to make each change of the registry.

    Raises:
        AccessDeniedError: the principal may not make one of them; none is made.
    """
    for change in changes:
        if change.kind in ("view", "on_demand_view"):
            require(control, "apply", project.view(change.name))
        else:
            control.require("apply", f"{change.kind} {change.name!r}")


def personal_fields(view: FeatureView | OnDemandFeatureView, fields: Iterable[Field]) -> list[str]:
    """Names of the personal ones among `fields`: declared so, from a source's column that is, or of a view tagged so.

    >>> from app.spec import Entity, ParquetFiles
    >>> mail = Field("mail", "string", pii=True)
    >>> source = Source("people", ParquetFiles("people.parquet"), (mail,), ("mail",), "at")
    >>> view = FeatureView("contact", (Entity("person", ("id",)),), source, (Field("mail", "string"),))
    >>> personal_fields(view, view.fields)
    ['mail']
    """
    if view.tags.get(PII_TAG, "").lower() == "true":
        return [f.name for f in fields]
    inherited: set[str] = set()
    if isinstance(view, FeatureView):
        raw = {f.name for f in view.source.fields if f.pii}
        inherited = raw | {a.name for a in view.aggregations if a.column in raw}
    return [f.name for f in fields if f.pii or f.name in inherited]


def hidden_in_log(project: Project) -> frozenset[str]:
    """The model's personal inputs, by the names the model knows, whose values the prediction log must not keep."""
    if project.access.log_personal:
        return frozenset()
    cases = project.cases
    marked = {f.name for f in cases.source.fields if f.pii}
    hidden = {f.name for f in cases.request_fields if f.pii or f.name in marked}
    for reference in project.references(project.service):
        view = project.view(reference.view)
        fields = view.feature_fields if isinstance(view, FeatureView) else view.fields
        asked = [f for f in fields if f.name == reference.feature]
        hidden.update(reference.column(name) for name in personal_fields(view, asked))
    return frozenset(hidden)


def with_personal_marks(view: FeatureView) -> FeatureView:
    """The view with every personal field declared so, whatever made it personal."""
    personal = personal_fields(view, view.fields)
    return replace(view, fields=tuple(replace(f, pii=f.name in personal) for f in view.fields))


def require_quarantine(control: AccessControl, project: Project, source: str | None, view: str | None) -> None:
    """Checks the right to read the refused rows that are asked for by name.

    Raises:
        AccessDeniedError: the principal may not read that view, or that source.
    """
    found = next((v for v in project.views if v.name == view), None)
    if found is not None:
        require(control, "read", found)
    elif view is not None:
        control.require("read", f"feature view {view!r}", view=view)
    if source is not None and view is None and not _may_read_source(control, project, source):
        control.require("read", f"refused rows of source {source!r}", tags=_tags(project, source))


def readable_refused(control: AccessControl, project: Project, refused: pa.Table) -> pa.Table:
    """The refused rows that the principal may read, with the personal values hidden that it may not.

    A row that a source refused needs the right to read the source, or every view that reads it. Of a source with
    personal fields, a row that is no JSON object is hidden whole, and so are values that no field declares and reasons
    that are no declared rule: both may hold anything. A row of a source that is no longer declared is hidden whole.
    """
    views = {v.name: v.tags for v in project.views}
    hiding = {source.name: _hiding(control, project, source) for source in project.sources}
    kept = []
    for row in refused.to_pylist():
        source, view = row["source"], row["view"]
        if view is None:
            readable = _may_read_source(control, project, source)
        else:
            readable = control.allows("read", view=view, tags=views.get(view, {}))
        if readable:
            kept.append(hiding[source].hide(row) if source in hiding else {**row, "row": HIDDEN, "reason": HIDDEN})
    return pa.Table.from_pylist(kept, schema=refused.schema)


@dataclass(frozen=True)
class _Hiding:
    """What a principal must not see of one source's refused rows. `personal`: fields, none when it may see all."""

    personal: frozenset[str]
    declared: frozenset[str]
    rules: frozenset[str]

    def hide(self, row: dict[str, Any]) -> dict[str, Any]:
        if not self.personal:
            return row
        reason = row["reason"] if self.rules.issuperset(row["reason"].split("; ")) else HIDDEN
        try:
            values = json.loads(row["row"])
        except ValueError:
            values = None
        if not isinstance(values, dict):
            return {**row, "row": HIDDEN, "reason": reason}
        names = self.personal | (values.keys() - self.declared)
        return {**row, "row": json.dumps(redact(values, names)), "reason": reason}


def _hiding(control: AccessControl, project: Project, source: Source) -> _Hiding:
    views = [v for v in project.views if v.source.name == source.name]
    personal = {f.name for f in source.fields if f.pii}
    for view in views:
        personal.update(personal_fields(view, view.fields))
    if any(f.pii for f in source.fields if f.name in source.key):
        personal.add("row_key")
    if control.allows("read_pii", tags=source.tags):
        personal = set()
    declared = {f.name for f in source.fields} | {f.name for view in views for f in stored_fields(view)} | {CREATED}
    rules = rule_texts([*row_expectations(source), *(e for view in views for e in view.expectations)])
    return _Hiding(frozenset(personal), frozenset(declared), frozenset(rules))


def _may_read_source(control: AccessControl, project: Project, source: str) -> bool:
    views = [v for v in project.views if v.source.name == source]
    every = bool(views) and all(control.allows("read", view=v.name, tags=v.tags) for v in views)
    return every or control.allows("read", tags=_tags(project, source))


def _tags(project: Project, source: str) -> Mapping[str, str]:
    return next((s.tags for s in project.sources if s.name == source), {})
