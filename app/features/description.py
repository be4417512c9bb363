"""A definition in words: what is declared and registered of it. Pure."""

from __future__ import annotations

from typing import Any

from app.features.declared import Declared, Kind
from app.features.definitions import US, kept_features
from app.features.registry_plan import Kept


def describe_definition(kind: Kind, name: str, declared: Declared | None, kept: Kept | None) -> dict[str, Any]:
    """What is known of a definition, as its active version has it, else as it is declared.

    `version` is `None` when it is not registered. `features`: type by name, of a service its references.
    """
    active = kept.active if kept else None
    told = declared or kept
    definition = active.definition if active else declared.definition if declared else _newest(kept)
    described: dict[str, Any] = {
        kind: name,
        "kind": kind,
        "version": active.version if active else None,
        "versions": [v.version for v in kept.versions] if kept else [],
        "declared": declared is not None,
        "held_back": bool(declared and kept and declared.definition_hash in kept.held),
        "description": told.description if told else "",
        "owner": told.owner if told else "",
        "tags": dict(told.tags) if told else {},
    }
    described.update(_meaning(kind, definition))
    if told and kind in ("view", "on_demand_view"):
        described["fields"] = dict(told.fields)
    return described


def _newest(kept: Kept | None) -> dict[str, Any]:
    return kept.versions[-1].definition if kept and kept.versions else {}


def _meaning(kind: Kind, definition: dict[str, Any]) -> dict[str, Any]:
    if kind == "view":
        return {
            "join_keys": definition["join_keys"],
            "source": definition["source"]["name"],
            "ttl": None if definition["ttl_us"] is None else definition["ttl_us"] * US,
            "features": {f.name: f.dtype for f in kept_features(definition)},
            "has_transform": definition["transform"] is not None,
        }
    if kind == "on_demand_view":
        return {"inputs": definition["inputs"], "features": dict(definition["fields"])}
    return dict(definition)
