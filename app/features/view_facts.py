"""All there is to tell about a view, gathered for its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.features.access import personal_fields
from app.features.definition_diff import Difference, diff_definitions, span
from app.features.definitions import US
from app.features.impact import Impact
from app.features.lineage_graph import LineageGraph
from app.features.statistics import ViewStatistics
from app.features.store import FeatureStore
from app.spec.features import Aggregation, FeatureView, OnDemandFeatureView


@dataclass(frozen=True)
class FieldFacts:
    """One feature: what a reader gets."""

    name: str
    dtype: str
    description: str
    personal: bool
    computed: str  # how, in words


@dataclass(frozen=True)
class VersionFacts:
    """One version with what it says differently from the one before."""

    version: int
    active: bool
    created_at: datetime
    created_by: str
    differences: Sequence[Difference]


@dataclass(frozen=True)
class ViewFacts:
    """One view. `statistics` is `None` when it was never materialised, or may not be read by who asks."""

    name: str
    kind: str
    description: str
    owner: str
    tags: Mapping[str, str]
    version: int | None
    entities: Sequence[tuple[str, Sequence[str], str]]  # name, join keys, description
    fields: Sequence[FieldFacts]
    source: Mapping[str, str] = field(default_factory=dict)
    expectations: Sequence[str] = ()
    code: str | None = None
    versions: Sequence[VersionFacts] = ()
    held_back: bool = False
    impact: Impact | None = None
    lineage: LineageGraph | None = None
    statistics: ViewStatistics | None = None
    materialized_until: datetime | None = None
    online_until: datetime | None = None


def view_facts(store: FeatureStore, name: str) -> ViewFacts:
    """Gathers the facts of a stored or on-demand view.

    Raises:
        UnknownNameError: no such view.
        AccessDeniedError: the principal may not read it.
    """
    kind = store.kind_of(name)
    store.require_readable(name)
    described = store.describe(name, kind)
    view = store.project.view(name)
    versions = store.versions(name, kind)
    definition: dict[str, Any] = next((v["definition"] for v in versions if v["active"]), {})
    stored = isinstance(view, FeatureView)
    return ViewFacts(
        name=name,
        kind=kind,
        description=view.description,
        owner=view.owner,
        tags=dict(view.tags),
        version=described["version"],
        entities=[(e.name, e.join_keys, e.description) for e in view.entities] if isinstance(view, FeatureView) else [],
        fields=_fields(view),
        source=_source(view),
        expectations=_expectations(view),
        code=definition.get("transform") if stored else definition.get("function"),
        versions=_versions(versions),
        held_back=described["held_back"],
        impact=store.impact(f"{kind}/{name}"),
        lineage=store.lineage(f"{kind}/{name}"),
        statistics=store.statistics(name) if stored and described["version"] is not None else None,
        materialized_until=described.get("materialized_until"),
        online_until=store.online_until(name) if stored and described["version"] is not None else None,
    )


def _fields(view: FeatureView | OnDemandFeatureView) -> list[FieldFacts]:
    fields = view.feature_fields if isinstance(view, FeatureView) else view.fields
    personal = personal_fields(view, fields)
    told = {f.name: f.description for f in view.fields}
    windows = {a.name: a for a in view.aggregations} if isinstance(view, FeatureView) else {}
    found = []
    for f in fields:
        window = windows.get(f.name)
        description = f.description or (told.get(window.column, "") if window else "")
        found.append(FieldFacts(f.name, f.dtype, description, f.name in personal, _window(window)))
    return found


def _window(window: Aggregation | None) -> str:
    if window is None:
        return ""
    length, hop = span(window.window // US), span(window.hop // US)
    return f"{window.function} of {window.column} over {length}, hop {hop}"


def _source(view: FeatureView | OnDemandFeatureView) -> dict[str, str]:
    if isinstance(view, OnDemandFeatureView):
        return {"inputs": ", ".join(view.inputs)}
    source = view.source
    return {
        "source": source.name,
        "about it": source.description,
        "read by": type(source.reader).__name__,
        "key": ", ".join(source.key),
        "event time": source.event_timestamp,
        "available from": source.available_timestamp or source.event_timestamp,
        "time to live": "any age" if view.ttl is None else span(view.ttl // US),
        "owner of the source": source.owner,
    }


def _expectations(view: FeatureView | OnDemandFeatureView) -> list[str]:
    if isinstance(view, OnDemandFeatureView):
        return []
    both = [(f"source {view.source.name}", e) for e in view.source.expectations]
    both += [("view", e) for e in view.expectations]
    found = []
    for where, e in both:
        rules = [
            "is never null" if e.not_null else "",
            f"≥ {e.minimum:g}" if e.minimum is not None else "",
            f"≤ {e.maximum:g}" if e.maximum is not None else "",
            f"one of {', '.join(map(str, e.one_of))}" if e.one_of is not None else "",
            f"matches {e.matches}" if e.matches is not None else "",
        ]
        found.append(f"{e.column} {', '.join(filter(None, rules))} ({where})")
    return found


def _versions(versions: Sequence[Mapping[str, Any]]) -> list[VersionFacts]:
    found = []
    before: Mapping[str, Any] | None = None
    for v in versions:
        differences = [] if before is None else diff_definitions(before["definition"], v["definition"])
        found.append(VersionFacts(v["version"], v["active"], v["created_at"], v["created_by"], differences))
        before = v
    return found[::-1]
