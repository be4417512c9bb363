"""The definitions of a feature store: plan, apply, versions, diff, delete, lineage, impact, describe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from app.errors import UnknownNameError
from app.features.access import require, require_changes, require_ingest, require_source
from app.features.declared import KIND_NAMES, Key, Kind
from app.features.definition_diff import Difference, diff_definitions
from app.features.description import describe_definition
from app.features.impact import Impact, find_impact, refuse_if_used, with_impact
from app.features.lineage_build import build_graph
from app.features.lineage_graph import LineageGraph
from app.features.registry import ViewRegistry
from app.features.registry_plan import Change, Plan
from app.features.uses import answering, in_use, model_uses
from app.features.view_tables import view_table
from app.foundation.access import AccessControl
from app.foundation.lake import Lake
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.spec import Project
from app.spec.features import Source


class GovernedDefinitions:
    """What a project declares and what its registry keeps of it.

    Args:
        project: the declarations.
        lake: tables of the views.
        database: the registry.
        principal: who asks; the project's access policy says what it may do.
    """

    def __init__(self, project: Project, lake: Lake, database: StateDatabase, principal: str) -> None:
        self.project = project
        self.lake = lake
        self._database = database
        self._access = AccessControl(project.access, principal, database, project.name)
        self._registry = ViewRegistry(database, project, principal)

    def plan(self) -> Plan:
        """What `apply` would change, and which services and models that affects; empty when nothing would.

        `plan().held` names views that stay behind their declaration because they were rolled back.
        """
        plan = self._registry.plan()
        graph = self._graph(all_uses=False) if plan else None
        return Plan([with_impact(graph, change) for change in plan] if graph else [], plan.revision, plan.held)

    def apply(self, plan: Plan | None = None) -> list[Change]:
        """Registers what is declared; a change of meaning becomes a new version, a view's with a table of its own.

        Args:
            plan: a plan that was looked at before; what changed since then refuses it. Default: a new one.

        Raises:
            AccessDeniedError: the principal may not make one of the changes; none is made.
            StateConflictError: somebody else changed the registry meanwhile; nothing is written. Two that apply the
                same declaration at once are no conflict.
        """
        wanted = self.plan() if plan is None else plan
        self._forget_plans()
        if not wanted:
            self._registry.refresh()
            return []
        require_changes(self._access, self.project, wanted)
        return self._registry.apply(wanted)

    def refresh(self) -> None:
        """Looks again which versions are active. Until told so, an open store stays with those it first saw."""
        self._forget_plans()
        self._registry.refresh()

    def versions(self, name: str, kind: Kind | None = None) -> list[dict[str, Any]]:
        """All versions of a view, on-demand view, service or entity, oldest first.

        Raises:
            UnknownNameError: nothing is declared or registered under that name.
        """
        return [
            {
                "version": v.version, "active": v.active, "created_at": v.created_at, "created_by": v.created_by,
                "definition_hash": v.definition_hash, "definition": v.definition,
            }
            for v in self._registry.versions(self.kind_of(name, kind), name)
        ]

    def diff(self, name: str, before: int, after: int, kind: Kind | None = None) -> list[Difference]:
        """What version `after` says differently from version `before`.

        Raises:
            UnknownNameError: no such name or version.
        """
        found = self.kind_of(name, kind)
        versions = [self._registry.version(found, name, number) for number in (before, after)]
        return diff_definitions(versions[0].definition, versions[1].definition)

    def delete(self, name: str, kind: Kind | None = None) -> None:
        """Takes a definition that nothing uses out of the registry. Its versions and the rows written stay on record.

        Raises:
            UnknownNameError: nothing of that name is registered.
            FeatureStoreError: it is in use; the message lists the users.
            AccessDeniedError: the principal may not.
            StateConflictError: somebody else changed the registry meanwhile.
        """
        found = self.kind_of(name, kind)
        tags = self._registry.tables.kept()[(found, name)].tags if self._registry.versions(found, name) else {}
        subject = f"{KIND_NAMES[found]} {name!r}"
        self._access.require("delete", subject, view=name if "view" in found else None, tags=tags)
        self._registry.delete(
            found, name, lambda: refuse_if_used(self.project, self._graph(all_uses=False), found, name)
        )
        self._forget_plans()

    def lineage(self, reference: str) -> LineageGraph:
        """What `reference` came from and what came from it, column by column.

        Args:
            reference: e.g. `"price"`, `"price:price"`, `"source/sales.amount"`, `"service/buying"`, `"model/shop@3"`.

        Raises:
            UnknownNameError: nothing is called so, or several things are.
        """
        graph = self._graph()
        return graph.around(graph.find(reference))

    def impact(self, reference: str) -> Impact:
        """Which views, services, models and prediction logs a change of `reference` affects.

        Raises:
            UnknownNameError: nothing is called so, or several things are.
        """
        return find_impact(self._graph(), reference)

    def describe(self, name: str, kind: Kind | None = None) -> dict[str, Any]:
        """What a view, on-demand view, service or entity is, who owns it, who uses it, what has been materialised.

        Raises:
            UnknownNameError: nothing is declared or registered under that name.
        """
        found = self.kind_of(name, kind)
        key = (found, name)
        described = describe_definition(
            found, name, self._registry.declared().get(key), self._registry.tables.kept().get(key)
        )
        described["used_by"] = self._users(found, name)
        if found == "view" and described["version"] is not None:
            table = view_table(self.project.name, name, described["version"])
            described["table"] = table
            described["snapshot_id"] = self.lake.current_snapshot_id(table) if self.lake.exists(table) else None
            described["materialized_until"] = self._materialized_until(name, described["version"])
        return described

    def require_readable(self, view: str) -> None:
        """Checks that the principal may read a declared view, stored or on demand, registered or not.

        Raises:
            UnknownNameError: no such view is declared.
            AccessDeniedError: the principal may not; the denial is in the audit trail.
        """
        require(self._access, "read", self.project.view(view))

    def require_source_readable(self, source: Source, columns: Iterable[str]) -> None:
        """Checks that the principal may read columns of a source's rows.

        Raises:
            AccessDeniedError: the principal may not; the denial is in the audit trail.
        """
        require_source(self._access, self.project, source, columns)

    def require_ingestible(self, sources: Iterable[Source]) -> None:
        """Checks that the principal may ingest sources.

        Raises:
            AccessDeniedError: the principal may not ingest one of them; the denial is in the audit trail.
        """
        for source in sources:
            require_ingest(self._access, source)

    def history(self) -> list[dict[str, Any]]:
        """Every change of the registry with who made it and when, oldest first."""
        return [
            {"revision": h.revision, "at": h.changed_at, "principal": h.changed_by, "changes": list(h.changes)}
            for h in self._registry.tables.history()
        ]

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest denials and changes of this project's features, newest first; names only, never values."""
        table = m.Decision
        asked = sa.select(table).where(table.decision.in_(("denied", "changed"))).order_by(table.id.desc())
        with self._database.session() as session:
            rows = [d for d in session.scalars(asked) if d.detail.get("project") == self.project.name]
        return [
            {"at": d.at, "principal": d.actor, "what": d.decision, "subject": d.subject, "reason": d.reason,
             **{k: v for k, v in d.detail.items() if k != "project"}}
            for d in rows[:limit]
        ]

    def names(self) -> list[Key]:
        """Kind and name of everything declared or registered, what was deleted included."""
        return list({**self._registry.declared(), **self._registry.tables.kept()})

    def kind_of(self, name: str, kind: Kind | None = None) -> Kind:
        """Of what kind a name is: views before services before entities, unless `kind` says.

        Raises:
            UnknownNameError: nothing is declared or registered under that name.
        """
        known = {**self._registry.declared(), **self._registry.tables.kept()}
        kinds: tuple[Kind, ...] = (kind,) if kind else ("view", "on_demand_view", "service", "entity")
        for candidate in kinds:
            if (candidate, name) in known:
                return candidate
        names = ", ".join(sorted({n for k, n in known if k in kinds})) or "none"
        asked = KIND_NAMES[kind] if kind else "feature view, service or entity"
        raise UnknownNameError(
            f"project {self.project.name!r} has no {asked} {name!r}; it has: {names}.", name=name
        )

    def _forget_plans(self) -> None:
        """What was made ready for reads is made anew. Here nothing is kept; the side that reads knows better."""

    def _users(self, kind: Kind, name: str) -> list[str]:
        graph = self._graph()
        reference = f"{kind}/{name}"
        if kind == "entity":
            return [f"feature view {v.name}" for v in self.project.views if name in {e.name for e in v.entities}]
        return find_impact(graph, reference).users if any(n.group == reference for n in graph.nodes.values()) else []

    def _materialized_until(self, view: str, version: int) -> Any:
        table = m.Materialization
        with self._database.session() as session:
            return session.scalar(
                sa.select(sa.func.max(table.end)).where(
                    table.project == self.project.name, table.view == view, table.version == version
                )
            )

    def _graph(self, all_uses: bool = True) -> LineageGraph:
        """The lineage of everything; without `all_uses` only of models that count as users."""
        uses = model_uses(self._database, self.project.name)
        answers = answering(self._database, self.project.name)
        return build_graph(
            self.project, self._registry.declared(), self._registry.tables.kept(),
            uses if all_uses else in_use(uses, answers), answers,
        )
