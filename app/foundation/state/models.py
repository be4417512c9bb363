"""Tables of the control state. Moments are UTC; large things live elsewhere and are named here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Moment(sa.types.TypeDecorator[datetime]):
    """A timezone-aware UTC moment; SQLite itself keeps no zone. A naive moment is UTC, never the machine's zone."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: sa.JSON, list[str]: sa.JSON, datetime: Moment}  # noqa: RUF012


class Materialization(Base):
    """One finished backfill of a range of available time."""

    __tablename__ = "materializations"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    project: Mapped[str]
    view: Mapped[str]
    version: Mapped[int]
    start: Mapped[datetime]
    end: Mapped[datetime]
    snapshot_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    rows: Mapped[int]
    quarantined: Mapped[int]
    run_id: Mapped[str]
    created_at: Mapped[datetime]


class FeatureStatistics(Base):
    """What a view's table held at one snapshot."""

    __tablename__ = "feature_statistics"
    table_name: Mapped[str] = mapped_column(primary_key=True)
    snapshot_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    statistics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class LoopRun(Base):
    """One walk of a project through the loop."""

    __tablename__ = "loop_runs"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]  # running | succeeded | failed | aborted
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    detail: Mapped[dict[str, Any]]


class LoopStep(Base):
    """A finished step of a run and what it gave."""

    __tablename__ = "loop_steps"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    output: Mapped[dict[str, Any]]


class RoutingState(Base):
    """Who answers what share of the traffic, numbered by routing epoch; never changed, only followed."""

    __tablename__ = "routing_states"
    model: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int] = mapped_column(primary_key=True)
    champion: Mapped[str]
    candidate: Mapped[str | None]
    weight_percent: Mapped[float]
    prepare: Mapped[str | None]  # version that replicas load beside the champion before a promotion
    rollout_id: Mapped[str | None]
    mirror_percent: Mapped[float] = mapped_column(default=0.0)  # of the champion's rows
    reason: Mapped[str]
    written_at: Mapped[datetime]


class ReplicaAck(Base):
    """The epoch a live replica follows and the versions it has loaded."""

    __tablename__ = "replica_acks"
    model: Mapped[str] = mapped_column(primary_key=True)
    replica_id: Mapped[str] = mapped_column(primary_key=True)
    boot_id: Mapped[str]
    epoch: Mapped[int]
    loaded: Mapped[list[str]]
    seen_at: Mapped[datetime]


class Rollout(Base):
    """One attempt (revision) to make a candidate the champion."""

    __tablename__ = "rollouts"
    __table_args__ = (
        sa.Index(
            "one_rollout_in_flight", "model", unique=True,
            sqlite_where=sa.text("phase NOT IN ('Healthy', 'Aborted')"),
            postgresql_where=sa.text("phase NOT IN ('Healthy', 'Aborted')"),
        ),
    )
    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(index=True)
    revision: Mapped[int]
    champion: Mapped[str]
    candidate: Mapped[str]
    phase: Mapped[str]
    step_index: Mapped[int]
    step_started_at: Mapped[datetime | None]  # event time
    paused: Mapped[bool]
    policy: Mapped[dict[str, Any]]
    reason: Mapped[str]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_event_at: Mapped[datetime]
    finished_event_at: Mapped[datetime | None]
    driver: Mapped[str]  # replay | platform


class RolloutTransition(Base):
    """Every change of a rollout, written before the act it announces."""

    __tablename__ = "rollout_transitions"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    rollout_id: Mapped[str] = mapped_column(index=True)
    from_phase: Mapped[str]
    to_phase: Mapped[str]
    step_index: Mapped[int]
    action: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]]
    at: Mapped[datetime]
    event_at: Mapped[datetime]


class AnalysisRun(Base):
    """The judgement of one analysis step; keyed so that none is done twice."""

    __tablename__ = "analysis_runs"
    rollout_id: Mapped[str] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    verdict: Mapped[str]
    measurements: Mapped[dict[str, Any]]
    started_event_at: Mapped[datetime]
    finished_event_at: Mapped[datetime | None]


class MonitoringWindow(Base):
    """What a closed monitoring window said."""

    __tablename__ = "monitoring_windows"
    run_id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    window_start: Mapped[datetime] = mapped_column(primary_key=True)
    window_end: Mapped[datetime]
    drift: Mapped[dict[str, Any]]
    performance: Mapped[dict[str, Any]]
    profile_path: Mapped[str]
    created_at: Mapped[datetime]


class Decision(Base):
    """Audit: who decided what about what, and why."""

    __tablename__ = "decisions"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    event_at: Mapped[datetime | None]
    run_id: Mapped[str | None] = mapped_column(index=True)
    actor: Mapped[str]
    subject: Mapped[str]
    decision: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]]


class AccessToken(Base):
    """A bearer token's hash and what it allows; the token itself is nowhere."""

    __tablename__ = "access_tokens"
    token_id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)  # SHA-256 of the token
    principal: Mapped[str]
    scopes: Mapped[list[str]]
    rate_per_s: Mapped[float | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
