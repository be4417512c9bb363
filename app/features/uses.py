"""Who learned from which features, noted when a model version is registered: features know no models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.foundation.state import registry_models as r
from app.spec import Project

Answering = Literal["champion", "candidate", "prepared"]


@dataclass(frozen=True)
class ModelUse:
    """What one registered model version learned from.

    `views`: version by view. `features`: `"view:feature"` in the training set's order. `training_set`: its rows' hash.
    """

    model: str
    version: str
    service: str
    service_version: int | None
    views: Mapping[str, int]
    features: tuple[str, ...]
    training_set: str
    run_id: str
    recorded_at: datetime

    @property
    def name(self) -> str:
        """`model@version`."""
        return f"{self.model}@{self.version}"


def record_model_use(
    database: StateDatabase, project: Project, model: str, version: str, manifest: Mapping[str, Any], run_id: str
) -> None:
    """Notes what a model version learned from; repeated, it says the same again.

    Args:
        database: the control state.
        project: its service is what the model reads.
        model: registered name.
        version: registered version.
        manifest: of the training set, or of several that were put together under `stretches`.
        run_id: the run that registered it.
    """
    parts = manifest.get("stretches", [manifest])
    names = {reference.label: reference.view for reference in project.references(project.service)}
    views = {names.get(label, label): read["version"] for part in parts for label, read in part["views"].items()}
    read = (feature.rpartition(":") for part in parts for feature in part["features"])
    features = dict.fromkeys(f"{names.get(label, label)}:{feature}" for label, _, feature in read)
    versions = r.DefinitionVersion
    with database.session() as session:
        service_version = session.scalar(
            sa.select(versions.version).where(
                versions.project == project.name, versions.kind == "service",
                versions.name == project.service.name, versions.active,
            )
        )
        session.merge(
            r.ModelFeatureUse(
                project=project.name, model=model, version=version, service=project.service.name,
                service_version=service_version, views=views, features=list(features),
                training_set=str(manifest["row_hash"]), run_id=run_id, recorded_at=datetime.now(UTC),
            )
        )


def model_uses(database: StateDatabase, project: str) -> list[ModelUse]:
    """All recorded uses of a project's features, oldest first."""
    table = r.ModelFeatureUse
    with database.session() as session:
        rows = session.scalars(sa.select(table).where(table.project == project).order_by(table.recorded_at))
        return [
            ModelUse(
                row.model, row.version, row.service, row.service_version, row.views, tuple(row.features),
                row.training_set, row.run_id, row.recorded_at,
            )
            for row in rows
        ]


def answering(database: StateDatabase, model: str) -> dict[str, Answering]:
    """The versions that answer for a model now, or are about to, as its routing says."""
    table = m.RoutingState
    with database.session() as session:
        route = session.scalars(sa.select(table).where(table.model == model).order_by(table.epoch.desc())).first()
    if route is None:
        return {}
    parts: list[tuple[str | None, Answering]] = [
        (route.prepare, "prepared"), (route.candidate, "candidate"), (route.champion, "champion"),
    ]
    return {version: part for version, part in parts if version is not None}


def in_use(uses: list[ModelUse], answers: Mapping[str, Answering]) -> list[ModelUse]:
    """The uses that count: versions that answer, and the newest, which may be rolled out next.

    Earlier versions that no longer answer hold nothing back; their tables stay all the same.
    """
    newest = uses[-1:]
    return [use for use in uses if use.version in answers or use in newest]
