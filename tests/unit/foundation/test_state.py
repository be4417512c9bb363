"""The control state: its migrations make what its models declare, and transactions are whole."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.foundation.lineage import record_decision
from app.foundation.lineage.decisions import decisions_of
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.settings import Settings


def test_migrations_make_exactly_what_the_models_declare(settings: Settings) -> None:
    StateDatabase.open(settings.state_url)
    engine = sa.create_engine(settings.state_url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), m.Base.metadata) == []


def test_opening_twice_keeps_what_is_there(settings: Settings) -> None:
    record_decision(
        StateDatabase.open(settings.state_url), actor="a", subject="s", decision="d", reason="r", run_id="1"
    )
    (kept,) = decisions_of(StateDatabase.open(settings.state_url), "1")
    assert (kept.actor, kept.reason) == ("a", "r")


def test_moments_come_back_in_utc(settings: Settings) -> None:
    database = StateDatabase.open(settings.state_url)
    new_york = datetime(2013, 9, 1, 8, tzinfo=timezone(timedelta(hours=-4)))
    record_decision(database, actor="a", subject="s", decision="d", reason="r", event_at=new_york, run_id="1")
    (kept,) = decisions_of(database, "1")
    assert kept.event_at == new_york
    assert kept.event_at is not None and kept.event_at.tzinfo is UTC


def test_an_error_rolls_the_whole_transaction_back(settings: Settings) -> None:
    database = pickle.loads(pickle.dumps(StateDatabase.open(settings.state_url)))
    now = datetime.now(UTC)
    with pytest.raises(sa.exc.IntegrityError), database.session() as session:
        for _ in range(2):
            session.add(m.LoopRun(run_id="1", project="p", status="running", started_at=now, detail={}))
            session.flush()
            session.expunge_all()
    with database.session() as session:
        assert session.get(m.LoopRun, "1") is None
