"""Tables of the feature registry: what is defined, in which versions, who changed it, who uses it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from app.foundation.state.models import Base


class DefinitionVersion(Base):
    """One meaning of an entity, view, on-demand view or service; a change of meaning is a new version."""

    __tablename__ = "definition_versions"
    project: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)  # entity | view | on_demand_view | service
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    definition_hash: Mapped[str]
    definition: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    active: Mapped[bool]


class RegisteredDefinition(Base):
    """What is known of a definition beside its meaning; it changes without a new version."""

    __tablename__ = "registered_definitions"
    project: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    description: Mapped[str]
    tags: Mapped[dict[str, Any]]
    fields: Mapped[dict[str, Any]]  # meaning and PII mark of each field
    held_hash: Mapped[str | None]  # hashes of the meanings that rollbacks hold back, with blanks between
    deleted_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    updated_by: Mapped[str]


class RegistryRevision(Base):
    """One change of a project's registry. Of two that start from the same revision, the key lets one in."""

    __tablename__ = "registry_revisions"
    project: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    changed_at: Mapped[datetime]
    changed_by: Mapped[str]
    changes: Mapped[list[str]]  # as `plan` words them


class ModelFeatureUse(Base):
    """The features a registered model version learned from."""

    __tablename__ = "model_feature_uses"
    project: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    service: Mapped[str]
    service_version: Mapped[int | None]
    views: Mapped[dict[str, Any]]  # version by view
    features: Mapped[list[str]]  # "view:feature", in the order of the training set
    training_set: Mapped[str]  # hash of its rows
    run_id: Mapped[str]
    recorded_at: Mapped[datetime]


class OnlineLoad(Base):
    """How far a view version's table was last brought into the online store."""

    __tablename__ = "online_loads"
    project: Mapped[str] = mapped_column(primary_key=True)
    view: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[datetime]
    snapshot_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    rows: Mapped[int]
    loaded_at: Mapped[datetime]
