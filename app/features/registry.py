"""Versions of feature views: a change of meaning is a new version with a table of its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from app.errors import FeatureStoreError, UnknownNameError
from app.features.definitions import definition, definition_hash, earlier
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.spec import Project
from app.spec.features import FeatureView, OnDemandFeatureView


@dataclass(frozen=True)
class Change:
    """What `apply` would do to a view. `parts`: what of its meaning changed. `affects`: services that read it."""

    view: str
    action: str  # "new" or "new version"
    version: int
    parts: tuple[str, ...] = ()
    affects: tuple[str, ...] = ()

    def __str__(self) -> str:
        changed = f" ({', '.join(self.parts)} changed)" if self.parts else ""
        readers = f"; read by {', '.join(self.affects)}" if self.affects else ""
        return f"{self.view}: {self.action}, version {self.version}{changed}{readers}"


class ViewRegistry:
    """The registered versions of one project's views. The active one is read and written by default."""

    def __init__(self, database: StateDatabase, project: Project) -> None:
        self._database = database
        self._project = project
        self._active: dict[str, int] = {}
        self._views: dict[tuple[str, int], FeatureView] = {}

    def plan(self) -> list[Change]:
        """What `apply` would change; empty when nothing would."""
        changes = []
        for view in self._project.views:
            kept = self.versions(view.name)
            if not kept:
                changes.append(Change(view.name, "new", 1))
            elif not any(v.active and v.definition_hash == definition_hash(view) for v in kept):
                changes.append(self._changed(view, kept))
        return changes

    def apply(self) -> list[Change]:
        """Registers what `plan` shows, in one transaction, and gives it back.

        A definition that an earlier version had makes that version active again.
        """
        changes = self.plan()
        with self._database.session() as session:
            for change in changes:
                view = self._declared(change.view)
                for kept in session.scalars(self._of(view.name)):
                    kept.active = kept.version == change.version
                if session.get(m.FeatureViewVersion, (self._project.name, view.name, change.version)) is None:
                    session.add(
                        m.FeatureViewVersion(
                            project=self._project.name, view=view.name, version=change.version,
                            definition_hash=definition_hash(view), definition=definition(view),
                            created_at=datetime.now(UTC), active=True,
                        )
                    )
        self._active.clear()
        return changes

    def rollback(self, view: str, version: int) -> None:
        """Makes an earlier version the active one.

        Raises:
            UnknownNameError: there is no such version.
        """
        self._kept(view, version)
        with self._database.session() as session:
            for kept in session.scalars(self._of(view)):
                kept.active = kept.version == version
        self._active.clear()

    def active(self, view: str) -> int:
        """The active version, as first seen by this process: what it serves does not change under a model.

        Raises:
            FeatureStoreError: the view has not been registered.
        """
        if view not in self._active:
            versions = [v.version for v in self.versions(view) if v.active]
            if not versions:
                raise FeatureStoreError(
                    f"feature view {view!r} of project {self._project.name!r} is not registered. Run store.apply() "
                    "(or the ingest and backfill jobs) first.", view=view,
                )
            self._active[view] = versions[-1]
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
            kept = self._kept(name, number)
            same = kept.definition_hash == definition_hash(view)
            self._views[(name, number)] = view if same else earlier(view, kept.definition)
        return self._views[(name, number)], number

    def versions(self, view: str) -> list[m.FeatureViewVersion]:
        """All versions of a view, oldest first."""
        with self._database.session() as session:
            return list(session.scalars(self._of(view)))

    def _changed(self, view: FeatureView, kept: list[m.FeatureViewVersion]) -> Change:
        now = definition(view)
        active = next((v for v in kept if v.active), kept[-1])
        parts = tuple(key for key in now if now[key] != active.definition.get(key))
        same = [v.version for v in kept if v.definition_hash == definition_hash(view)]
        services = {model.service for model in (self._project.model, self._project.baseline)}
        readers = {s.name for s in services if any(name == view.name for name, _ in self._project.expand(s))}
        action = "back to an earlier version" if same else "new version"
        number = same[-1] if same else kept[-1].version + 1
        return Change(view.name, action, number, parts, tuple(sorted(readers)))

    def _declared(self, name: str) -> FeatureView:
        view = self._project.view(name)
        if isinstance(view, OnDemandFeatureView):
            raise FeatureStoreError(
                f"{name!r} is an on-demand view: it is computed when asked and has no versions or rows.", view=name
            )
        return view

    def _kept(self, view: str, version: int) -> m.FeatureViewVersion:
        for kept in self.versions(view):
            if kept.version == version:
                return kept
        known = ", ".join(str(v.version) for v in self.versions(view)) or "none"
        raise UnknownNameError(
            f"feature view {view!r} has no version {version}; it has: {known}.", view=view, version=version
        )

    def _of(self, view: str) -> sa.Select[m.FeatureViewVersion]:
        table = m.FeatureViewVersion
        return (
            sa.select(table)
            .where(table.project == self._project.name, table.view == view)
            .order_by(table.version)
        )
