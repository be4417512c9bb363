"""Registered definitions of one project: their versions, which is active, who changed what.

A change of meaning is a new version, with a table of its own where it is a view. Every change of the registry is one
transaction that begins by taking the next revision: of two that start from the same one, the second is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy.orm import Session

from app.errors import FeatureStoreError, StateConflictError, UnknownNameError
from app.features.declared import KIND_NAMES, Declared, Key, Kind, declared
from app.features.definitions import definition_hash, earlier
from app.features.registry_plan import Change, KeptVersion, Plan, decide_changes
from app.features.registry_tables import RegistryTables
from app.foundation.state import StateDatabase
from app.spec import Project
from app.spec.features import FeatureView, OnDemandFeatureView


class ViewRegistry:
    """The registry of one project.

    The active version of a view is kept as this process first saw it, so that what a model is served does not change
    under it; `refresh`, and the changes made through this object, look again.
    """

    def __init__(self, database: StateDatabase, project: Project, principal: str = "unknown") -> None:
        self.tables = RegistryTables(database, project.name, principal)
        self._project = project
        self._active: dict[str, int] = {}
        self._views: dict[tuple[str, int], FeatureView] = {}
        self._newest: dict[str, int] = {}  # the highest version of each view that was ever read here
        self._followed: int | None = None

    def refresh(self) -> None:
        """Forgets which versions were active; the next read looks again."""
        self._active.clear()

    def follow_rollbacks(self) -> bool:
        """Takes up what somebody else rolled back, and gives whether anything changed.

        A version that is newer than all that were read here is left alone: it is for code that declares it.
        """
        revision = self.tables.revision()
        if revision == self._followed:
            return False
        kept = self.tables.kept()
        self._followed = revision
        active = {view: kept[("view", view)].active for view in list(self._active) if ("view", view) in kept}
        moved = {
            view: now.version for view, now in active.items()
            if now is not None and now.version != self._active[view] and now.version <= self._newest[view]
        }
        self._active.update(moved)
        return bool(moved)

    def declared(self) -> dict[Key, Declared]:
        """What the project declares."""
        return declared(self._project)

    def plan(self) -> Plan:
        """What `apply` would change; empty when nothing would."""
        revision = self.tables.revision()
        changes, held = decide_changes(self.declared(), self.tables.kept())
        return Plan(changes, revision, held)

    def apply(self, plan: Plan) -> list[Change]:
        """Registers what `plan` shows, in one transaction, and gives what was done.

        A definition that an earlier version had makes that version active again.

        Raises:
            StateConflictError: somebody else changed the registry since the plan was made, and to something else.
        """
        wanted = self.declared()

        def register(session: Session, now: datetime) -> None:
            for change in plan:
                self.tables.register(session, wanted[(change.kind, change.name)], change.version, now)

        try:
            self.tables.change(plan.revision, [str(change) for change in plan], register)
        except StateConflictError:
            if self.plan():
                raise
            return []  # somebody else applied the same declarations a moment earlier
        finally:
            self.refresh()
        return list(plan)

    def rollback(self, view: str, version: int) -> None:
        """Makes an earlier version of a view the active one.

        `apply` keeps it so as long as the project declares a meaning that was rolled back from.

        Raises:
            UnknownNameError: there is no such version.
            FeatureStoreError: the view was deleted or is no stored view.
            StateConflictError: somebody else changed the registry meanwhile.
        """
        revision = self.tables.revision()
        self._declared(view)
        chosen = self.version("view", view, version)
        known = self.tables.kept()[("view", view)]
        if known.active is None:
            raise FeatureStoreError(f"feature view {view!r} was deleted; apply its declaration again first.", view=view)
        held = (known.held | {known.active.definition_hash}) - {chosen.definition_hash}

        def activate(session: Session, now: datetime) -> None:
            self.tables.activate(session, "view", view, version)
            told = self.tables.told(session, "view", view, now)
            told.held_hash = " ".join(sorted(held)) or None

        self.tables.change(revision, [f"{view}: rolled back to version {version}"], activate)
        self.refresh()

    def delete(self, kind: Kind, name: str, refuse_if_used: Callable[[], None]) -> None:
        """Takes a definition out of use; its versions and rows stay, and its next version gets the next number.

        Args:
            kind: what it is.
            name: how it is called.
            refuse_if_used: raises when something uses it; asked when nobody else can change the registry any more.

        Raises:
            UnknownNameError: nothing of that name is registered.
            StateConflictError: somebody else changed the registry meanwhile.
        """
        revision = self.tables.revision()
        known = self.tables.kept().get((kind, name))
        if known is None or known.active is None:
            raise UnknownNameError(f"there is no registered {KIND_NAMES[kind]} {name!r} to delete.", name=name)

        def take_out(session: Session, now: datetime) -> None:
            refuse_if_used()
            self.tables.activate(session, kind, name, None)
            told = self.tables.told(session, kind, name, now)
            told.deleted_at, told.held_hash = now, None

        self.tables.change(revision, [f"{KIND_NAMES[kind]} {name}: deleted"], take_out)
        self.refresh()

    def active(self, view: str) -> int:
        """The active version, as first seen by this process.

        Raises:
            FeatureStoreError: the view has not been registered, or was deleted.
        """
        if view not in self._active:
            versions = [v.version for v in self.versions("view", view) if v.active]
            if not versions:
                raise FeatureStoreError(
                    f"feature view {view!r} of project {self._project.name!r} is not registered. Run store.apply() "
                    "(or the ingest and backfill jobs) first.", view=view,
                )
            self._active[view] = versions[-1]
            self._newest[view] = max(versions[-1], self._newest.get(view, 0))
        return self._active[view]

    def view(self, name: str, version: int | None = None) -> tuple[FeatureView, int]:
        """A view and its version, the active one by default. An earlier version has that version's fields.

        Raises:
            UnknownNameError: no such view or version.
            FeatureStoreError: the view has not been registered.
        """
        view = self._declared(name)
        number = self.active(name) if version is None else version
        if (name, number) not in self._views:
            kept = self.version("view", name, number)
            same = kept.definition_hash == definition_hash(view)
            self._views[(name, number)] = view if same else earlier(view, kept.definition)
        return self._views[(name, number)], number

    def versions(self, kind: Kind, name: str) -> tuple[KeptVersion, ...]:
        """All versions of a definition, oldest first; none when it was never registered."""
        known = self.tables.kept().get((kind, name))
        return () if known is None else known.versions

    def version(self, kind: Kind, name: str, version: int) -> KeptVersion:
        """One version of a definition.

        Raises:
            UnknownNameError: there is no such version.
        """
        versions = self.versions(kind, name)
        for kept in versions:
            if kept.version == version:
                return kept
        known = ", ".join(str(v.version) for v in versions) or "none"
        raise UnknownNameError(
            f"{KIND_NAMES[kind]} {name!r} has no version {version}; it has: {known}.", name=name, version=version
        )

    def _declared(self, name: str) -> FeatureView:
        view = self._project.view(name)
        if isinstance(view, OnDemandFeatureView):
            raise FeatureStoreError(
                f"{name!r} is an on-demand view: it is computed when asked, by the code the project declares, and has "
                "no rows.", view=name,
            )
        return view
