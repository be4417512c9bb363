"""Which rights a read or write of features needs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from app.features.references import ReadPlan
from app.features.registry_plan import Change
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


def with_personal_marks(view: FeatureView) -> FeatureView:
    """The view with every personal field declared so, whatever made it personal."""
    personal = personal_fields(view, view.fields)
    return replace(view, fields=tuple(replace(f, pii=f.name in personal) for f in view.fields))


def hide_personal(control: AccessControl, project: Project, refused: pa.Table) -> pa.Table:
    """Refused rows with the personal values hidden that the principal may not read.

    A row of a source that the project no longer declares is hidden whole.
    """
    hidden: dict[str, list[str] | None] = {}
    for source in project.sources:
        names = {f.name for f in source.fields if f.pii}
        for view in (v for v in project.views if v.source.name == source.name):
            names.update(personal_fields(view, view.fields))
        hidden[source.name] = sorted(names) if names and not control.allows("read_pii", tags=source.tags) else []
    rows = [
        _hide(row, hidden.get(source))
        for source, row in zip(refused["source"].to_pylist(), refused["row"].to_pylist(), strict=True)
    ]
    return refused.set_column(refused.schema.get_field_index("row"), "row", pa.array(rows, pa.string()))


def _hide(row: str, names: list[str] | None) -> str:
    if names is None:
        return HIDDEN
    return json.dumps(redact(json.loads(row), names)) if names else row
