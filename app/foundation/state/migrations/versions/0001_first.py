"""First schema: registry, loop runs, routing, rollouts, decisions."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime()


def _key(name: str, kind: sa.types.TypeEngine[Any] | None = None) -> sa.Column[Any]:
    return sa.Column(name, kind or sa.String(), primary_key=True, nullable=False)


def _text(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), nullable=nullable)


def _moment(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, MOMENT, nullable=nullable)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=False)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "feature_view_versions",
        _key("project"),
        _key("view"),
        _key("version", sa.Integer()),
        _text("definition_hash"),
        _json("definition"),
        _moment("created_at"),
        sa.Column("active", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "loop_runs",
        _key("run_id"),
        _text("project"),
        _text("status"),
        _moment("started_at"),
        _moment("finished_at", True),
        _json("detail"),
    )
    op.create_index("ix_loop_runs_project", "loop_runs", ["project"])
    op.create_table(
        "loop_steps",
        _key("run_id"),
        _key("step"),
        _text("status"),
        _moment("started_at"),
        _moment("finished_at", True),
        _json("output"),
    )
    op.create_table(
        "routing_states",
        _key("model"),
        _key("epoch", sa.Integer()),
        _text("champion"),
        _text("candidate", True),
        sa.Column("weight_percent", sa.Double(), nullable=False),
        _text("prepare", True),
        _text("rollout_id", True),
        _text("reason"),
        _moment("written_at"),
    )
    op.create_table(
        "replica_acks",
        _key("model"),
        _key("replica_id"),
        _text("boot_id"),
        _number("epoch"),
        _json("loaded"),
        _moment("seen_at"),
    )
    op.create_table(
        "rollouts",
        _key("rollout_id"),
        _text("model"),
        _number("revision"),
        _text("champion"),
        _text("candidate"),
        _text("phase"),
        _number("step_index"),
        _moment("step_started_at", True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        _json("policy"),
        _text("reason"),
        _moment("created_at"),
        _moment("updated_at"),
        _moment("started_event_at"),
        _moment("finished_event_at", True),
    )
    op.create_index("ix_rollouts_model", "rollouts", ["model"])
    op.create_table(
        "rollout_transitions",
        _key("id", sa.Integer()),
        _text("rollout_id"),
        _text("from_phase"),
        _text("to_phase"),
        _number("step_index"),
        _text("action"),
        _text("reason"),
        _json("detail"),
        _moment("at"),
        _moment("event_at"),
    )
    op.create_index("ix_rollout_transitions_rollout_id", "rollout_transitions", ["rollout_id"])
    op.create_table(
        "analysis_runs",
        _key("rollout_id"),
        _key("revision", sa.Integer()),
        _key("step", sa.Integer()),
        _text("verdict"),
        _json("measurements"),
        _moment("started_event_at"),
        _moment("finished_event_at", True),
    )
    op.create_table(
        "monitoring_windows",
        _key("run_id"),
        _key("model"),
        _key("window_start", MOMENT),
        _moment("window_end"),
        _json("drift"),
        _json("performance"),
        _text("profile_path"),
        _moment("created_at"),
    )
    op.create_table(
        "materializations",
        _key("id", sa.Integer()),
        _text("project"),
        _text("view"),
        _number("version"),
        _moment("start"),
        _moment("end"),
        sa.Column("snapshot_id", sa.BigInteger()),
        _number("rows"),
        _number("quarantined"),
        _text("run_id"),
        _moment("created_at"),
    )
    op.create_table(
        "decisions",
        _key("id", sa.Integer()),
        _moment("at"),
        _moment("event_at", True),
        _text("run_id", True),
        _text("actor"),
        _text("subject"),
        _text("decision"),
        _text("reason"),
        _json("detail"),
    )
    op.create_index("ix_decisions_run_id", "decisions", ["run_id"])
