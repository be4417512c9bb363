"""The registry's tables of one project: what is kept, and the one way to change it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import cast

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.errors import StateConflictError
from app.features.declared import Declared, Key, Kind
from app.features.registry_plan import Kept, KeptVersion
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.foundation.state import registry_models as r


class RegistryTables:
    """Rows of one project. Every change takes the next revision first: of two from the same one, one is refused."""

    def __init__(self, database: StateDatabase, project: str, principal: str) -> None:
        self._database = database
        self._project = project
        self._principal = principal

    def revision(self) -> int:
        """Number of the last change of the registry, 0 before the first."""
        table = r.RegistryRevision
        with self._database.session() as session:
            newest = sa.select(sa.func.max(table.revision)).where(table.project == self._project)
            return session.scalar(newest) or 0

    def history(self) -> list[r.RegistryRevision]:
        """Every change of the registry, oldest first."""
        table = r.RegistryRevision
        with self._database.session() as session:
            of_project = sa.select(table).where(table.project == self._project)
            return list(session.scalars(of_project.order_by(table.revision)))

    def kept(self) -> dict[Key, Kept]:
        """Everything registered, what is no longer declared or was deleted included."""
        versions, told = r.DefinitionVersion, r.RegisteredDefinition
        found: dict[tuple[str, str], list[KeptVersion]] = {}
        with self._database.session() as session:
            of_project = sa.select(versions).where(versions.project == self._project).order_by(versions.version)
            for v in session.scalars(of_project):
                kept = KeptVersion(
                    v.version, v.definition_hash, v.definition, v.created_at, v.created_by, v.active
                )
                found.setdefault((v.kind, v.name), []).append(kept)
            facts = {
                (t.kind, t.name): t
                for t in session.scalars(sa.select(told).where(told.project == self._project))
            }
        return {cast(Key, key): _kept(versions_of, facts.get(key)) for key, versions_of in found.items()}

    def change(self, revision: int, changes: list[str], act: Callable[[Session, datetime], None]) -> None:
        """One transaction; its first statement takes the next revision, and with it the right to write.

        Raises:
            StateConflictError: somebody else took that revision.
        """
        now = datetime.now(UTC)
        taken = r.RegistryRevision(
            project=self._project, revision=revision + 1, changed_at=now, changed_by=self._principal,
            changes=changes,
        )
        with self._database.session() as session:
            session.add(taken)
            try:
                session.flush()
            except IntegrityError as error:
                raise self._conflict(revision) from error
            session.add(
                m.Decision(
                    at=now, event_at=None, run_id=None, actor=self._principal, subject=f"features of {taken.project}",
                    decision="changed", reason="; ".join(changes),
                    detail={"project": self._project, "revision": taken.revision},
                )
            )
            act(session, now)

    def register(self, session: Session, wanted: Declared, version: int, now: datetime) -> None:
        """Makes `version` say what is declared and be the active one."""
        place = (self._project, wanted.kind, wanted.name, version)
        if session.get(r.DefinitionVersion, place) is None:
            session.add(
                r.DefinitionVersion(
                    project=self._project, kind=wanted.kind, name=wanted.name, version=version,
                    definition_hash=wanted.definition_hash, definition=wanted.definition, created_at=now,
                    created_by=self._principal, active=True,
                )
            )
            session.flush()
        self.activate(session, wanted.kind, wanted.name, version)
        told = self.told(session, wanted.kind, wanted.name, now)
        told.owner, told.description = wanted.owner, wanted.description
        told.tags, told.fields, told.deleted_at = dict(wanted.tags), dict(wanted.fields), None
        chosen = session.get_one(r.DefinitionVersion, place)
        if chosen.definition_hash == wanted.definition_hash:
            told.held_hash = None

    def activate(self, session: Session, kind: Kind, name: str, version: int | None) -> None:
        """Makes one version the active one, or none."""
        table = r.DefinitionVersion
        of_name = sa.select(table).where(
            table.project == self._project, table.kind == kind, table.name == name
        )
        for kept in session.scalars(of_name):
            kept.active = kept.version == version

    def told(self, session: Session, kind: Kind, name: str, now: datetime) -> r.RegisteredDefinition:
        """The row beside the versions, made when it is missing."""
        place = (self._project, kind, name)
        told = session.get(r.RegisteredDefinition, place)
        if told is None:
            told = r.RegisteredDefinition(
                project=self._project, kind=kind, name=name, owner="", description="", tags={}, fields={},
                updated_at=now, updated_by=self._principal,
            )
            session.add(told)
        told.updated_at, told.updated_by = now, self._principal
        return told

    def _conflict(self, revision: int) -> StateConflictError:
        newer = [h for h in self.history() if h.revision > revision]
        what = "; ".join(f"{h.changed_by} ({', '.join(h.changes)})" for h in newer)
        return StateConflictError(
            f"the feature registry of project {self._project!r} was changed meanwhile by {what}. Nothing of yours "
            "was written. Look at plan() again, then apply.", project=self._project, revision=revision,
        )


def _kept(versions: list[KeptVersion], told: r.RegisteredDefinition | None) -> Kept:
    if told is None:
        return Kept(tuple(versions))
    return Kept(
        tuple(versions), told.owner, told.description, told.tags, told.fields,
        frozenset((told.held_hash or "").split()), told.deleted_at
    )
