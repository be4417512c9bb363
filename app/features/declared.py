"""Everything a project declares, each as what the registry keeps of it: its meaning and what is told about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from app.features.definitions import definition
from app.features.function_code import code_of
from app.spec import Project
from app.spec.features import Entity, FeatureService, FeatureView, Field, OnDemandFeatureView

Kind = Literal["entity", "view", "on_demand_view", "service"]
Key = tuple[Kind, str]
Declarable = Entity | FeatureView | OnDemandFeatureView | FeatureService
KIND_NAMES: dict[Kind, str] = {
    "entity": "entity", "view": "feature view", "on_demand_view": "on-demand view", "service": "feature service",
}


@dataclass(frozen=True)
class Declared:
    """One declared thing. `definition` is its meaning; the rest changes without a new version.

    `fields`: of each field what it means and whether it is personal data.
    """

    kind: Kind
    name: str
    definition: dict[str, Any]
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.kind, self.name

    @property
    def definition_hash(self) -> str:
        """Hash of the meaning."""
        return hashlib.sha256(json.dumps(self.definition, sort_keys=True).encode()).hexdigest()


def declared(project: Project) -> dict[Key, Declared]:
    """All entities, views, on-demand views and services of a project, in this order."""
    found = [_told("entity", e, {"join_keys": list(e.join_keys)}) for e in project.entities]
    found += [_told("view", v, definition(v), v.fields) for v in project.views]
    found += [_told("on_demand_view", v, on_demand_definition(v), v.fields) for v in project.on_demand_views]
    found += [_told("service", s, service_definition(project, s)) for s in project.all_services]
    return {d.key: d for d in found}


def on_demand_definition(view: OnDemandFeatureView) -> dict[str, Any]:
    """Inputs, fields and the function's code."""
    return {
        "inputs": list(view.inputs), "fields": [[f.name, f.dtype] for f in view.fields],
        "function": code_of(view.function),
    }


def service_definition(project: Project, service: FeatureService) -> dict[str, Any]:
    """The features with wildcards resolved: a model's inputs change when a view it reads whole gets another field."""
    return {"features": [str(reference) for reference in project.references(service)]}


def _told(kind: Kind, thing: Declarable, meaning: dict[str, Any], fields: tuple[Field, ...] = ()) -> Declared:
    return Declared(
        kind, thing.name, meaning, thing.owner, thing.description, dict(thing.tags),
        {f.name: {"description": f.description, "pii": f.pii} for f in fields},
    )
