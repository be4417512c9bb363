"""What `apply` would do: what is declared against what is registered. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from app.features.declared import KIND_NAMES, Declared, Key, Kind

Action = Literal["new", "new version", "back to an earlier version", "update"]


@dataclass(frozen=True)
class KeptVersion:
    """A registered version of a definition."""

    version: int
    definition_hash: str
    definition: dict[str, Any]
    created_at: datetime
    created_by: str
    active: bool


@dataclass(frozen=True)
class Kept:
    """What the registry has under one name, oldest version first.

    `held`: hashes of the meanings that rollbacks hold back. A deleted definition keeps its versions, none active.
    """

    versions: tuple[KeptVersion, ...]
    owner: str = ""
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    deleted_at: datetime | None = None

    @property
    def active(self) -> KeptVersion | None:
        """The version that is read and written by default."""
        return next((v for v in self.versions if v.active), None)


@dataclass(frozen=True)
class Change:
    """What `apply` would do to one definition.

    `parts`: what of it changed. `feeds`: on-demand views computed from it. `affects`: services that read it.
    `models`: registered model versions that learned from it, as `name@version`.
    """

    name: str
    action: Action
    version: int
    parts: tuple[str, ...] = ()
    affects: tuple[str, ...] = ()
    kind: Kind = "view"
    feeds: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def __str__(self) -> str:
        subject = self.name if self.kind == "view" else f"{KIND_NAMES[self.kind]} {self.name}"
        changed = f" ({', '.join(self.parts)} changed)" if self.parts else ""
        reached = (("feeds", self.feeds), ("read by", self.affects), ("learned by", self.models))
        users = "".join(f"; {verb} {', '.join(names)}" for verb, names in reached if names)
        return f"{subject}: {self.action}, version {self.version}{changed}{users}"


class Plan(list[Change]):
    """The changes `apply` would make, and the registry's revision they were found at.

    `held`: definitions that differ from what is declared because somebody rolled them back, with their version.
    """

    def __init__(self, changes: Iterable[Change] = (), revision: int = 0, held: Mapping[str, int] | None = None):
        super().__init__(changes)
        self.revision = revision
        self.held = dict(held or {})


def decide_changes(declared: Mapping[Key, Declared], kept: Mapping[Key, Kept]) -> tuple[list[Change], dict[str, int]]:
    """The changes that make the registry say what is declared, and what stays back by a rollback.

    What is registered but no longer declared stays as it is until it is deleted.
    """
    changes: list[Change] = []
    held: dict[str, int] = {}
    for key, wanted in declared.items():
        known = kept.get(key)
        if known is None or not known.versions:
            changes.append(Change(wanted.name, "new", 1, kind=wanted.kind))
            continue
        active = known.active
        behind = active is not None and active.definition_hash != wanted.definition_hash
        if active is not None and behind and wanted.definition_hash in known.held:
            held[wanted.name] = active.version
        elif active is None or behind:
            changes.append(_other_meaning(wanted, known))
            continue
        told = _told_anew(wanted, known)
        if active is not None and told:
            changes.append(Change(wanted.name, "update", active.version, told, kind=wanted.kind))
    return changes, held


def _other_meaning(wanted: Declared, known: Kept) -> Change:
    before = known.active or known.versions[-1]
    parts = changed_parts(before.definition, wanted.definition)
    same = [v.version for v in known.versions if v.definition_hash == wanted.definition_hash]
    if same:
        return Change(wanted.name, "back to an earlier version", same[-1], parts, kind=wanted.kind)
    return Change(wanted.name, "new version", known.versions[-1].version + 1, parts, kind=wanted.kind)


def changed_parts(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of what two definitions say differently.

    >>> changed_parts({"ttl_us": 1, "fields": []}, {"ttl_us": 2, "fields": [], "expectations": ["x"]})
    ('ttl_us', 'expectations')
    """
    names = dict.fromkeys([*before, *after])
    return tuple(name for name in names if before.get(name) != after.get(name))


def _told_anew(wanted: Declared, known: Kept) -> tuple[str, ...]:
    return tuple(
        name
        for name in ("owner", "description", "tags", "fields")
        if getattr(wanted, name) != getattr(known, name)
    )
