"""Registry: versions of every kind of definition, revisions, uses by models, loads of the online store."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _key(name: str, kind: sa.types.TypeEngine[Any] | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.String(), primary_key=True, nullable=False)


def _text(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _moment(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(), nullable=nullable)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "definition_versions",
        _key("project"),
        _key("kind"),
        _key("name"),
        _key("version", sa.Integer()),
        _text("definition_hash"),
        _json("definition"),
        _moment("created_at"),
        _text("created_by"),
        sa.Column("active", sa.Boolean(), nullable=False),
    )
    op.execute(
        "INSERT INTO definition_versions (project, kind, name, version, definition_hash, definition, created_at, "
        "created_by, active) SELECT project, 'view', view, version, definition_hash, definition, created_at, "
        "'unknown', active FROM feature_view_versions"
    )
    op.drop_table("feature_view_versions")
    op.create_table(
        "registered_definitions",
        _key("project"),
        _key("kind"),
        _key("name"),
        _text("owner"),
        _text("description"),
        _json("tags"),
        _json("fields"),
        _text("held_hash", True),
        _moment("deleted_at", True),
        _moment("updated_at"),
        _text("updated_by"),
    )
    op.create_table(
        "registry_revisions",
        _key("project"),
        _key("revision", sa.Integer()),
        _moment("changed_at"),
        _text("changed_by"),
        _json("changes"),
    )
    op.create_table(
        "model_feature_uses",
        _key("project"),
        _key("model"),
        _key("version"),
        _text("service"),
        sa.Column("service_version", sa.Integer()),
        _json("views"),
        _json("features"),
        _text("training_set"),
        _text("run_id"),
        _moment("recorded_at"),
    )
    op.create_table(
        "online_loads",
        _key("project"),
        _key("view"),
        _key("version", sa.Integer()),
        _moment("until"),
        sa.Column("snapshot_id", sa.BigInteger()),
        sa.Column("rows", sa.Integer(), nullable=False),
        _moment("loaded_at"),
    )
