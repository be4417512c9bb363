"""The control state: its migrations make what its models declare, and transactions are whole."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing import get_context

import pytest
import sqlalchemy as sa
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from app.errors import SettingsError
from app.foundation.database_url import DatabaseAwayError
from app.foundation.lineage import record_decision
from app.foundation.lineage.decisions import decisions_of
from app.foundation.state import StateDatabase
from app.foundation.state import models as m
from app.foundation.state.database import VERSIONS, newest_schema
from app.settings import Settings
from tests.locked_database import nobody_writes


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


def test_a_naive_moment_is_utc_whatever_the_zone_of_the_machine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        database = StateDatabase.open(settings.state_url)
        moment = datetime(2013, 9, 1, 8, tzinfo=UTC)
        record_decision(
            database,
            actor="a",
            subject="s",
            decision="d",
            reason="r",
            event_at=moment.replace(tzinfo=None),
            run_id="1",
        )
        assert decisions_of(database, "1")[0].event_at == moment
    finally:
        monkeypatch.undo()
        time.tzset()


def _open(url: str) -> int:
    """In a process of its own: opens the database and writes one decision."""
    record_decision(StateDatabase.open(url), actor="a", subject="s", decision="d", reason="r", run_id="1")
    return 1


def test_processes_may_open_a_new_database_at_once(settings: Settings) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        assert sum(pool.map(_open, [settings.state_url] * 6)) == 6
    assert len(decisions_of(StateDatabase.open(settings.state_url), "1")) == 6


def test_a_migration_cut_short_leaves_nothing_behind(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_short(*_: object) -> None:
        raise InterruptedError("killed between two tables")

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(op, "create_index", cut_short)
        StateDatabase.open(settings.state_url)
    assert sa.inspect(sa.create_engine(settings.state_url)).get_table_names() == []
    StateDatabase.open(settings.state_url)


def test_a_schema_of_a_newer_version_is_refused_with_what_to_do(settings: Settings) -> None:
    database = StateDatabase.open(settings.state_url)
    with database.session() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match=r"newer Millrace.*9999"):
        StateDatabase.open(settings.state_url)


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(SettingsError, match="MILLRACE_STATE_URL"):
        StateDatabase.open("somewhere/state.db")


def test_the_newest_schema_is_the_last_migration() -> None:
    assert newest_schema() == ScriptDirectory(str(VERSIONS.parent)).get_current_head()


def test_nobody_waits_for_a_writer_who_has_nothing_to_write(settings: Settings) -> None:
    url = f"{settings.state_url}?timeout=0.1"
    database = StateDatabase.open(url)
    with nobody_writes(url):
        assert decisions_of(StateDatabase.open(url), "1") == []
        with pytest.raises(DatabaseAwayError, match="database is locked"):
            record_decision(database, actor="a", subject="s", decision="d", reason="r", run_id="1")
    record_decision(database, actor="a", subject="s", decision="d", reason="r", run_id="1")
    assert len(decisions_of(database, "1")) == 1
